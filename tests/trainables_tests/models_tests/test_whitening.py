import pytest
import torch

from trainables.config import InitializedFromData
from trainables.models.whitening import CHUNK, PatchWhitening


def correlated_images(count: int = 300, channels: int = 3, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, channels, size + 2, size + 2, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 3, stride=1)
    return 3 * smooth + 0.5 * smooth.mean(1, keepdim=True) + 1


@pytest.mark.parametrize(("channels", "patch", "stride"), [(3, 2, 1), (1, 2, 1), (3, 2, 2), (1, 4, 4)])
def test_output_is_white(channels, patch, stride):
    layer = PatchWhitening(channels, patch, stride)
    images = correlated_images(channels=channels)
    layer.initialize_from(images)
    values = channels * patch**2
    outputs = layer(images)[:, :values].transpose(0, 1).reshape(values, -1)
    torch.testing.assert_close(torch.cov(outputs), torch.eye(values), atol=0.02, rtol=0)


def test_output_before_initialization_is_the_pixels():
    layer = PatchWhitening(1, patch=2)
    image = torch.rand(1, 1, 2, 2)
    assert layer(image).flatten().tolist() == [*image.flatten().tolist(), *(-image).flatten().tolist()]


def test_second_half_of_the_filters_is_the_first_negated():
    layer = PatchWhitening(3)
    layer.initialize_from(correlated_images())
    first, second = layer.weight.chunk(2)
    assert torch.equal(first, -second)


def test_chunks_do_not_change_the_filters():
    images = correlated_images(count=2 * CHUNK + 3)
    whole = torch.nn.functional.unfold(images, 2).transpose(1, 2).reshape(-1, 12).double()
    expected = torch.cov(whole.T, correction=0)
    torch.testing.assert_close(PatchWhitening(3)._patch_covariance(images), expected, rtol=1e-4, atol=1e-6)


def test_images_without_variance_give_finite_filters():
    layer = PatchWhitening(3)
    layer.initialize_from(torch.ones(4, 3, 8, 8))
    assert layer.weight.isfinite().all()


def test_only_the_bias_is_trained():
    layer = PatchWhitening(3)
    layer.initialize_from(correlated_images())
    before = layer.weight.clone()
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(correlated_images(count=8)).square().sum().backward()
    optimizer.step()
    assert torch.equal(layer.weight, before)
    assert layer.bias.abs().min() > 0


def test_filters_travel_with_the_state():
    layer, other = PatchWhitening(3), PatchWhitening(3)
    layer.initialize_from(correlated_images())
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, layer.weight)


def test_keeps_the_protocol_of_the_training_loop():
    assert isinstance(PatchWhitening(3), InitializedFromData)

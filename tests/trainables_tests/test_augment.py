import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from trainables.augment import cutout, mirrored_at_first, mixup_share, normalize, take_batch


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(count: int, height: int = 6, width: int = 7) -> torch.Tensor:
    """No two pixels of an image are equal, so that where each one went is known."""
    random = np.random.default_rng(0)
    pixels = [random.permutation(height * width * 3).reshape(height, width, 3) for _ in range(count)]
    return torch.tensor(np.stack(pixels).astype(np.uint8))


def all_crops(image: torch.Tensor, limit: int) -> list[torch.Tensor]:
    """Every shift of an (H, W, C) image by up to `limit`, made by padding with torch and cutting."""
    height, width, _ = image.shape
    moved = image.permute(2, 0, 1)[None].float()
    padded = functional.pad(moved, [limit] * 4, mode="reflect")[0].permute(1, 2, 0).to(torch.uint8)
    return [
        padded[top : top + height, left : left + width]
        for top in range(2 * limit + 1)
        for left in range(2 * limit + 1)
    ]


def found(image: torch.Tensor, candidates: list[torch.Tensor]) -> int:
    matches = [number for number, candidate in enumerate(candidates) if torch.equal(image, candidate)]
    assert len(matches) == 1
    return matches[0]


def test_batch_without_augmentation_is_a_plain_selection():
    images = random_images(5)
    index = torch.tensor([3, 0, 3])
    assert torch.equal(take_batch(images, index, generator=generator()), images[index])


def test_those_images_are_mirrored_left_to_right_that_are_to_be():
    images = random_images(4)
    index = torch.arange(4).repeat(2)
    wanted = torch.tensor([True, False, False, True, False, True, False, True])
    batch = take_batch(images, index, mirrored=wanted, generator=generator())
    mirrored = [
        found(image, [images[i], images[i].flip(1)]) for image, i in zip(batch, index.tolist(), strict=True)
    ]
    assert mirrored == wanted.tolist()


def test_about_half_of_the_images_are_mirrored_at_first_by_the_seed():
    first = mirrored_at_first(1000, 1, torch.device("cpu"))
    assert first.dtype == torch.bool
    assert 400 < int(first.sum()) < 600
    assert torch.equal(first, mirrored_at_first(1000, 1, torch.device("cpu")))
    assert not torch.equal(first, mirrored_at_first(1000, 2, torch.device("cpu")))


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_crop_shifts_with_reflection_each_image_on_its_own(limit):
    image = random_images(1)
    batch = take_batch(image, torch.zeros(400, dtype=torch.int64), crop=limit, generator=generator())
    candidates = all_crops(image[0], limit)
    used = {found(shifted, candidates) for shifted in batch}
    assert len(used) > 0.9 * len(candidates)


def test_every_shift_up_to_the_limit_occurs():
    image = random_images(1)
    batch = take_batch(image, torch.zeros(500, dtype=torch.int64), crop=1, generator=generator())
    assert {found(shifted, all_crops(image[0], 1)) for shifted in batch} == set(range(9))


def test_crop_and_flip_together():
    image = random_images(1)
    batch = take_batch(
        image,
        torch.zeros(600, dtype=torch.int64),
        mirrored=torch.arange(600) % 2 == 0,
        crop=1,
        generator=generator(),
    )
    crops = all_crops(image[0], 1)
    candidates = [*crops, *(crop.flip(1) for crop in crops)]
    assert {found(shifted, candidates) for shifted in batch} == set(range(18))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_shift_larger_than_the_image_reflects_again_and_again(size):
    image = random_images(1, size, size)
    batch = take_batch(image, torch.zeros(50, dtype=torch.int64), crop=7, generator=generator())
    # torch pads by less than the image only; numpy goes on reflecting
    padded = torch.tensor(np.pad(image[0].numpy(), ((7, 7), (7, 7), (0, 0)), mode="reflect"))
    windows = [padded[top : top + size, left : left + size] for top in range(15) for left in range(15)]
    assert all(any(torch.equal(shifted, window) for window in windows) for shifted in batch)


def test_same_seed_gives_the_same_batch_and_another_seed_another_one():
    images, index = random_images(8), torch.arange(8)
    batch = take_batch(images, index, crop=2, generator=generator(1))
    assert torch.equal(batch, take_batch(images, index, crop=2, generator=generator(1)))
    assert not torch.equal(batch, take_batch(images, index, crop=2, generator=generator(2)))


@pytest.mark.parametrize("options", [{}, {"crop": 1, "mirrored": torch.arange(5) > 2}])
def test_normalized_batch_is_float_in_channels_last_memory(options):
    raw = take_batch(random_images(5), torch.arange(5), **options, generator=generator())
    mean, std = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 8.0])
    batch = normalize(raw, mean, std)
    assert batch.shape == (5, 3, 6, 7)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    expected = (raw.numpy().astype(float) - [1, 2, 3]) / [2, 4, 8]
    np.testing.assert_allclose(batch.permute(0, 2, 3, 1).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_cutout_clears_one_square_of_each_image(side):
    batch = torch.ones(400, 3, 7, 9).contiguous(memory_format=torch.channels_last)
    cut = cutout(batch, side, generator())
    assert batch.all()
    assert cut.is_contiguous(memory_format=torch.channels_last)
    cleared = cut == 0
    assert torch.equal(cleared[:, :1].expand(-1, 3, -1, -1), cleared)  # of all channels
    for mask in cleared[:, 0]:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask.sum() == len(rows) * len(columns)  # a rectangle without holes
        assert rows[-1] - rows[0] + 1 == len(rows) <= side
        assert columns[-1] - columns[0] + 1 == len(columns) <= side
        # smaller only where it reaches over a border
        assert len(rows) == side or rows[0] == 0 or rows[-1] == 6
        assert len(columns) == side or columns[0] == 0 or columns[-1] == 8
    assert cleared.any(0).all()  # anywhere in the image
    assert not cleared.all(0).any()  # each image its own


def test_cutout_larger_than_the_image_clears_it():
    assert not cutout(torch.ones(3, 1, 4, 4), 9, generator()).any()


@given(alpha=st.floats(1e-300, 1e6), seed=st.integers(0, 2**32))
def test_mixup_share_is_at_least_one_half(alpha, seed):
    assert 0.5 <= mixup_share(alpha, np.random.default_rng(seed)) <= 1.0


def test_mixup_share_follows_beta():
    random = np.random.default_rng(0)
    uniform = [mixup_share(1.0, random) for _ in range(4000)]
    assert np.mean(uniform) == pytest.approx(0.75, abs=0.01)
    assert np.mean([mixup_share(1000.0, random) for _ in range(500)]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([mixup_share(0.001, random) for _ in range(500)]) == pytest.approx(1.0, abs=0.02)

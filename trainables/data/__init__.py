"""A data set as arrays in memory: uint8 images, labels, class names, and a seeded train/validation split.

Only `load_test` reads the test part. Importing this package is cheap: numpy and Pillow come with the first
load.
"""

from trainables.data.dataset import DataError, Dataset, Part, ProgressBar, ProgressFactory, merged
from trainables.data.load import load_dataset, load_test
from trainables.data.names import check_name, default_data_dir

__all__ = [
    "DataError",
    "Dataset",
    "Part",
    "ProgressBar",
    "ProgressFactory",
    "check_name",
    "default_data_dir",
    "load_dataset",
    "load_test",
    "merged",
]

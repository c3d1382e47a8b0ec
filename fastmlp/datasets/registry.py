"""Registry of the named data sets with their classes, addresses and checksums."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["SOURCES", "Source"]


@dataclass(frozen=True)
class Source:
    """Named data set.

    Attributes
    ----------
    name : str
    classes : tuple of str
        Class names in the order of the indices.
    image_shape : tuple of int
        (channels, height, width).
    base_url : str
        Address to which a file's name is appended.
    checksums : dict of str to str
        ``algorithm:digest`` of each file.
    """

    name: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    base_url: str = ""
    checksums: dict[str, str] = field(default_factory=dict)


_DIGITS = tuple("0123456789")

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source("digits", _DIGITS, (1, 8, 8)),
        Source(
            "cifar10",
            ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            (3, 32, 32),
            "https://www.cs.toronto.edu/~kriz/",
            {"cifar-10-python.tar.gz": "md5:c58f30108f718f92721af3b95e74349a"},
        ),
        Source(
            "mnist",
            _DIGITS,
            (1, 28, 28),
            # A mirror of http://yann.lecun.com/exdb/mnist/, which is offline.
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            {
                "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
                "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
                "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
            },
        ),
        Source(
            "fashion-mnist",
            (
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ),
            (1, 28, 28),
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            {
                "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
                "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
                "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
            },
        ),
    )
}

"""Folders of images."""

import numpy as np
import pytest
from PIL import Image

from jaxreg.study.data.images import read_images

RNG = np.random.default_rng(0)


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


def test_gray_images_have_one_channel(tmp_path):
    pixels = RNG.integers(0, 256, (6, 5, 4)).astype(np.uint8)
    for i, image in enumerate(pixels):
        save(tmp_path / f"{10 * (i % 2)}" / f"{i}.png", image, "L" if i % 3 else "RGB")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "0" / "notes.txt").write_text("no image")
    found = read_images(tmp_path)
    np.testing.assert_array_equal(found.x, pixels[[0, 2, 4, 1, 3, 5], ..., None])
    assert list(found.y) == ["0", "0", "0", "10", "10", "10"]
    assert (found.kind, found.x.dtype, found.notes) == ("image", np.uint8, ())


def test_colors_are_kept_and_other_sizes_scaled(tmp_path):
    pixels = RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8)
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        save(tmp_path / name, pixels)
    save(tmp_path / "b" / "2.PNG", np.full((10, 8, 3), 9, np.uint8))
    found = read_images(tmp_path)
    assert found.x.shape == (4, 5, 4, 3)
    np.testing.assert_array_equal(found.x[0], pixels)
    np.testing.assert_array_equal(found.x[3], 9)
    assert found.notes == ("Scaled 1 of 4 images to 4 x 5 pixels.",)


def test_large_images_are_scaled_down(tmp_path):
    for name in "ab":
        save(tmp_path / name / "1.png", np.full((100, 128), 7, np.uint8))
    found = read_images(tmp_path)
    assert found.x.shape == (2, 50, 64, 1)
    assert found.notes == ("Scaled 2 of 2 images to 64 x 50 pixels.",)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["1.png"], "got images in .* itself; sort them"),
        (["a/1.png"], "got only a in"),
        (["a/1.png", "b/x.txt"], "got no image in b of .*; remove that folder"),
        (["train/a/1.png", "train/b/1.png"], "got no image .* did you mean .*train"),
        ([], "got no image"),
    ],
)
def test_folders_of_another_form_raise(tmp_path, files, message):
    for name in files:
        save(tmp_path / name.replace("txt", "png"), np.zeros((2, 2), np.uint8))
        if name.endswith("txt"):
            (tmp_path / name.replace("txt", "png")).rename(tmp_path / name)
    with pytest.raises(ValueError, match=f"`data` must be a folder with a folder .*{message}"):
        read_images(tmp_path)


def test_files_that_are_no_images_of_8_bits_raise(tmp_path):
    for name in "ab":
        save(tmp_path / name / "1.png", np.zeros((2, 2), np.uint8))
    (tmp_path / "b" / "2.png").write_text("no image")
    with pytest.raises(ValueError, match=r"`data` must contain images, but .*2.png is not one"):
        read_images(tmp_path)
    save(tmp_path / "b" / "2.png", np.zeros((2, 2), np.uint16))
    with pytest.raises(ValueError, match=r"`data` must contain 8-bit images, got mode I"):
        read_images(tmp_path)

"""Augmentations of images, and of the labels that follow them."""

from docs.site.rows.row import Place, Technique

BORDERS = (
    "Positions outside the image get `fill`, 0 by default. For standardized images pass the value "
    "that means black, or a `border`."
)
UNIT = "Values have to be in `[0, 1]`. Convert with `augment.to_float`, and standardize afterwards."
LABELS = (
    "Labels do not follow by themselves; see [labels that follow](../../guides/labels_follow.md)."
)


def _row(
    name: str, title: str, also: tuple[str, ...], *risks: str,
    functions: tuple[str, ...] = (), work: tuple[str, ...] = (),
) -> Technique:  # fmt: skip
    names = functions or (name, f"random_{name}")
    return Technique(
        page=f"augment/{name}", title=title, also=also, risks=risks, work=work,
        functions=tuple(f"augment.{each}" for each in names),
    )  # fmt: skip


PIPELINE = ("crop, flip, rotation, jitter",)
GEOMETRY = (
    _row("affine", "Affine warp",
         ("torchvision `RandomAffine`, `F.affine`", "Keras `RandomAffine`",
          "albumentations `Affine`", "kornia `RandomAffine`"),
         "Angles are counterclockwise, shears are tangents, and shifts are pixels. torchvision's "
         "are clockwise, degrees and shares of the image.", BORDERS, LABELS),
    _row("perspective", "Perspective",
         ("torchvision `RandomPerspective`", "Keras `RandomPerspective`",
          "albumentations `Perspective`"), BORDERS, LABELS),
    _row("rotate", "Rotation",
         ("torchvision `RandomRotation`, `F.rotate`", "Keras `RandomRotation` (in turns)",
          "albumentations `Rotate`"),
         "Degrees, counterclockwise. Keras's factor 0.1 is 36 degrees.", BORDERS, LABELS,
         work=PIPELINE),
    _row("translate", "Translation",
         ("torchvision `RandomAffine(translate=)`", "Keras `RandomTranslation`",
          "albumentations `ShiftScaleRotate`"),
         "Pixels, where torchvision and Keras take shares of the image.", BORDERS, LABELS),
    _row("scale", "Scaling",
         ("torchvision `RandomAffine(scale=)`", "Keras `RandomZoom`",
          "albumentations `RandomScale`"),
         "A factor above 1 enlarges. Keras's positive zoom shrinks.", BORDERS, LABELS),
    _row("shear", "Shear",
         ("torchvision `RandomAffine(shear=)`", "Keras `RandomShear`"),
         "Tangents of the angle: 0.3 is 17 degrees.", BORDERS, LABELS),
    _row("elastic", "Elastic deformation",
         ("torchvision `ElasticTransform(alpha, sigma)` with `strength=alpha / 2` and "
          "`radius=4 * sigma`", "Keras `RandomElasticTransform`",
          "albumentations `ElasticTransform`", "Simard et al. 2003"),
         "A large strength with a small `sigma` tears the image.", LABELS),
    _row("flip_left_right", "Horizontal flip",
         ("torchvision `RandomHorizontalFlip`, `hflip`", "Keras `RandomFlip(\"horizontal\")`",
          "albumentations `HorizontalFlip`", "`tf.image.flip_left_right`", "mirror"),
         "Mirrored digits, letters and road signs mean something else.", LABELS, work=PIPELINE),
    _row("flip_up_down", "Vertical flip",
         ("torchvision `RandomVerticalFlip`, `vflip`", "Keras `RandomFlip(\"vertical\")`",
          "albumentations `VerticalFlip`"),
         "Photographs of the world have an up.", LABELS),
    _row("rot90", "Quarter turns",
         ("`jnp.rot90`, `tf.image.rot90`", "albumentations `RandomRotate90`"),
         "The random form needs square images.", LABELS),
    _row("crop", "Crop",
         ("torchvision `RandomCrop`, `CenterCrop`, `F.crop`", "Keras `RandomCrop`, `CenterCrop`",
          "albumentations `RandomCrop`"),
         "torchvision's `padding=4` is `augment.pad` before the crop.", LABELS,
         functions=("crop", "center_crop", "random_crop"), work=PIPELINE),
    _row("resize", "Resizing",
         ("torchvision `Resize`", "Keras `Resizing`", "`jax.image.resize`"),
         "It smooths before it shrinks. PyTorch's `interpolate` does not by default.", LABELS,
         functions=("resize",)),
    _row("resized_crop", "Resized crop",
         ("torchvision `RandomResizedCrop`", "timm `RandomResizedCropAndInterpolation`",
          "Inception crop", "albumentations `RandomResizedCrop`"),
         "The default lower share of 0.08 is ImageNet's. Small images with small objects need "
         "more.", LABELS),
    _row("pad", "Padding",
         ("torchvision `Pad`", "`jnp.pad`, `tf.pad`", "albumentations `PadIfNeeded`"),
         BORDERS, functions=("pad",)),
)  # fmt: skip
COLOR = (
    _row("brightness", "Brightness",
         ("torchvision `ColorJitter(brightness=)`, `adjust_brightness`",
          "Keras `RandomBrightness` (adds instead)", "PIL `ImageEnhance.Brightness`"), UNIT,
         work=PIPELINE),
    _row("contrast", "Contrast",
         ("torchvision `ColorJitter(contrast=)`, `adjust_contrast`", "Keras `RandomContrast`",
          "PIL `ImageEnhance.Contrast`"), UNIT),
    _row("saturation", "Saturation",
         ("torchvision `ColorJitter(saturation=)`, `adjust_saturation`",
          "Keras `RandomSaturation`", "PIL `ImageEnhance.Color`"), UNIT),
    _row("hue", "Hue",
         ("torchvision `ColorJitter(hue=)`, `adjust_hue`", "Keras `RandomHue`"),
         UNIT, "A shift of 0.5 turns each color into its opposite."),
    _row("gamma", "Gamma",
         ("torchvision `adjust_gamma`", "albumentations `RandomGamma`"), UNIT),
    _row("color_jitter", "Color jitter",
         ("torchvision `ColorJitter`", "Keras `RandomColorJitter`",
          "albumentations `ColorJitter`", "kornia `ColorJitter`"), UNIT,
         "The order is fixed; torchvision shuffles it.", work=PIPELINE),
    _row("grayscale", "Grayscale",
         ("torchvision `RandomGrayscale`", "Keras `RandomGrayscale`", "albumentations `ToGray`"),
         UNIT),
    _row("invert", "Inversion",
         ("torchvision `RandomInvert`", "PIL `ImageOps.invert`",
          "albumentations `InvertImg`"), UNIT),
    _row("solarize", "Solarization",
         ("torchvision `RandomSolarize`", "Keras `Solarization`", "PIL `ImageOps.solarize`",
          "BYOL"),
         UNIT, "PIL's threshold counts from 0 to 255: 128 is 0.5 here."),
    _row("posterize", "Posterization",
         ("torchvision `RandomPosterize`", "PIL `ImageOps.posterize`"), UNIT),
    _row("equalize", "Histogram equalization",
         ("torchvision `RandomEqualize`", "Keras `Equalization`", "PIL `ImageOps.equalize`"),
         UNIT, functions=("equalize",)),
    _row("autocontrast", "Automatic contrast",
         ("torchvision `RandomAutocontrast`", "Keras `AutoContrast`",
          "PIL `ImageOps.autocontrast`"), UNIT, functions=("autocontrast",)),
    _row("normalize", "Standardization",
         ("torchvision `Normalize(mean, std)`", "Keras `Normalization`",
          "albumentations `Normalize`"),
         "Do it last: the other functions expect values in `[0, 1]`.",
         functions=("normalize", "to_float", "to_uint8")),
    _row("sharpness", "Sharpness",
         ("torchvision `RandomAdjustSharpness`", "Keras `RandomSharpness`",
          "PIL `ImageEnhance.Sharpness`"), UNIT),
    _row("gaussian_blur", "Gaussian blur",
         ("torchvision `GaussianBlur`", "Keras `RandomGaussianBlur`",
          "albumentations `GaussianBlur`", "SimCLR"),
         "A `radius` below three times `sigma` cuts the kernel off."),
)  # fmt: skip
ERASING = (
    _row("cutout", "Cutout",
         ("DeVries and Taylor 2017", "albumentations `CoarseDropout`", "Keras `RandomErasing`"),
         "The box is centered anywhere in the image, so the border may cut off a part of it, as in "
         "the paper."),
    _row("random_erasing", "Random erasing",
         ("torchvision `RandomErasing`", "timm `RandomErasing`, `reprob`", "Keras `RandomErasing`",
          "Zhong et al. 2020"),
         "Erase after standardization with `fill=0`, which is then the mean, as timm does.",
         functions=("random_erasing",)),
    _row("grid_mask", "GridMask",
         ("Chen et al. 2020", "albumentations `GridDropout`", "KerasCV `GridMask`"),
         "The share is of the length of a cell, so the erased area is its square."),
)  # fmt: skip
MIXING = (
    _row("mixup", "Mixup",
         ("timm `Mixup(mixup_alpha=)`", "torchvision `v2.MixUp`", "Keras `MixUp`",
          "mixup with label smoothing", "Zhang et al. 2018"),
         "The labels become distributions. Train with "
         "[`smoothed_cross_entropy`](../targets/smoothed_cross_entropy.md), which takes them, "
         "also with `alpha`.",
         "Accuracy of mixed training batches is low by construction; look at validation."),
    _row("cutmix", "CutMix",
         ("timm `Mixup(cutmix_alpha=)`", "torchvision `v2.CutMix`", "Keras `CutMix`",
          "Yun et al. 2019"),
         "The labels follow the area that was really pasted, which the border may make smaller."),
)  # fmt: skip
POLICIES = (
    _row("rand_augment", "RandAugment",
         ("torchvision `RandAugment`", "timm `rand-m9-mstd0.5-inc1`", "Keras `RandAugment`",
          "RandAugment in JAX, randaugment, rand_augment", "Cubuk et al. 2020"),
         UNIT, "Magnitudes count from 0 to 30, as in torchvision. timm's `m9` counts to 10.",
         functions=("rand_augment",), work=("RandAugment",)),
    _row("trivial_augment", "TrivialAugment",
         ("torchvision `TrivialAugmentWide`", "Müller and Hutter 2021"), UNIT,
         functions=("trivial_augment",)),
    _row("auto_augment", "AutoAugment",
         ("torchvision `AutoAugment`", "timm `original`, `v0`", "Cubuk et al. 2019"),
         UNIT, "The policies of CIFAR-10, SVHN and ImageNet differ; the default is CIFAR-10's.",
         functions=("auto_augment",)),
    _row("aug_mix", "AugMix",
         ("torchvision `AugMix`", "timm `augmix-m5-w4-d2`", "Keras `AugMix`",
          "Hendrycks et al. 2020"),
         "The paper's gain comes with its consistency loss, "
         "[Jensen-Shannon](../information/jensen_shannon.md).", UNIT, functions=("aug_mix",)),
    _row("sequence", "Composition of augmentations",
         ("torchvision `Compose`, `RandomChoice`, `RandomApply`, `RandomOrder`",
          "albumentations `Compose`, `OneOf`", "timm `switch_prob`", "`nn.Sequential`"),
         "Each function gets its own key. A function of one image is lifted to batches with "
         "`for_each`.",
         functions=("sequence", "one_of", "with_probability", "for_each", "switch")),
)  # fmt: skip
FOLLOWING = (
    _row("affine_labels", "Segmentation masks that follow",
         ("albumentations `mask`", "torchvision `tv_tensors.Mask`", "label maps"),
         "Pass the same matrix as for the image. Labels are never interpolated.",
         functions=("affine_labels",)),
    _row("keypoints", "Key points that follow",
         ("albumentations `KeypointParams`", "torchvision `tv_tensors.KeyPoints`", "landmarks"),
         "Coordinates count from the corner of the image: the middle of the first pixel is 0.5. "
         "albumentations counts from the middle of the pixel: add 0.5.",
         functions=("keypoints",)),
    _row("boxes", "Boxes that follow",
         ("albumentations `BboxParams`", "torchvision `tv_tensors.BoundingBoxes`",
          "bounding boxes of detection"),
         "A rotated box becomes the box around its corners, which is larger than the object.",
         "Boxes outside the result have no area: mask them out of the loss.",
         functions=("boxes",)),
)  # fmt: skip
PLACES = (
    Place("geometry", "Images: geometry", "Warps, crops and flips.", GEOMETRY),
    Place("color", "Images: color", "Changes of values and filters.", COLOR),
    Place("erasing", "Images: erasing", "Parts replaced by a value.", ERASING),
    Place("mixing", "Images: mixing", "Two examples in one, with their labels.", MIXING),
    Place("policies", "Images: policies", "Random sequences of operations.", POLICIES),
    Place("following", "Images: labels that follow",
          "Masks, points and boxes, warped like their image.", FOLLOWING),
)  # fmt: skip

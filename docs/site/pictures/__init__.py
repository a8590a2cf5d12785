"""The pictures of the techniques, by the name of the page."""

from collections.abc import Callable

from docs.site.panels import Picture
from docs.site.pictures import (
    activations,
    data,
    images,
    layers,
    loops,
    losses,
    optimizers,
    trained,
    updates,
)

PICTURES: dict[str, Callable[[], Picture]] = {
    **activations.PICTURES,
    **layers.PICTURES,
    **losses.PICTURES,
    **trained.PICTURES,
    **updates.PICTURES,
    **optimizers.PICTURES,
    **images.PICTURES,
    **data.PICTURES,
    **loops.PICTURES,
}

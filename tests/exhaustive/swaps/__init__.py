"""Small models in the shape of published Flax examples, before jaxreg's parts are put in."""

"""The machine of the site: the catalog of techniques, their pictures and their pages."""

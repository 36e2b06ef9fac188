"""Work that many processes share through a folder: units, claims, results, a manifest."""

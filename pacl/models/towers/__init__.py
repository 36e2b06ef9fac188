"""Frozen image towers and text towers, each behind the interfaces of `pacl.models.towers.base`."""

"""From an image and prompts to labels for every pixel."""

"""What the commands share: which words are images, flags, configurations, mistakes in one line."""

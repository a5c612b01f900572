"""From an opened network to a bundle that was checked: what ``api`` and ``compile`` share."""

"""Where a classifier looks: maps of what speaks for a finding and against it, and checks of whether to believe them."""

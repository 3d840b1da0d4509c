"""Any table of labels and scores becomes numbers with intervals."""

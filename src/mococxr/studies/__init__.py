"""Label-efficiency studies: encoders x head modes x targets x label subsets, one trial each, and what they show."""

"""What all pages share: the template around them, macros, styles, numbers in words, figures. See `render`."""

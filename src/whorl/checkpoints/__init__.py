"""Files of weights as they are found: readers, names of tensors, and what each is for."""

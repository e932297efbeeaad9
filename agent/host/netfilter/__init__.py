"""netfilter: the rules of the kernel, those of a site, and how one becomes the other."""

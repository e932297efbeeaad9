"""OpenPGP: keys as files hold them, GnuPG homes, and gpg as a pipe."""

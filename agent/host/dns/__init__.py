"""DNS: what nameservers are asked, what records mean, and how a zone is changed."""

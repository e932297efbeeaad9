"""The sealer: encrypts each message to its recipient on the way into the mailbox (docs/design/021-sealing.md)."""

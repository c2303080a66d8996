"""The page to look at a collection: as files that open from a disk, or from a server here."""

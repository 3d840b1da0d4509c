"""A model at work beside an archive: `pacs` scores new images and stores reports, `ledger` knows what was done."""

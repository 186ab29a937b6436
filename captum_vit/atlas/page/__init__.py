"""The static site of an atlas: plain records in, a page that opens from a disk or any server out."""

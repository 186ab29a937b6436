"""The adapters that are built in, one family or library a file; installed as ``captum_vit_adapters``."""

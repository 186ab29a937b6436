"""Adapters of the families in Ghiasi et al. (2022), one file each; installed as ``captum_vit_adapters``."""

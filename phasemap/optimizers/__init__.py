"""How weights are updated, one file each: K trials at once on one flat [K, P] tensor."""

"""Ray-cast images: the look of the 3Dshapes data set, and a simulated robot camera."""

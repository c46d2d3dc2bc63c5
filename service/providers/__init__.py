"""Models: one file and one row of the registry for each kind of provider, all of them `ports.Model`."""

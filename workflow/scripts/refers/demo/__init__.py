"""Generated datasets with a planted signal, in the official layouts: they stand in for the real downloads in `make demo`.

`anatomy` draws a schematic chest, `findings` adds findings to it, `reports` describes them in words, `style` is how each
dataset acquires and stores an image, and one module per source writes its official files. Everything is drawn from seeds;
nothing comes from a real patient.
"""

"""Generated datasets with a planted signal, in the official layouts: they stand in for the real downloads in `make demo`.

`anatomy` draws a schematic chest, `findings` draws on it, `reports` describes what was drawn, `style` is how each
dataset acquires and stores a picture, and one module per source writes its official files. Everything is drawn from
seeds; nothing comes from a real patient.
"""

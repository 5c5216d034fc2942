"""gradfit.fit in pieces, whatever the size of the data."""

import gradfit


def large(model, data, *, memory="16GB", **told):
    return gradfit.fit(model, data, memory=memory, **told)

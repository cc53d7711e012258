"""One row through a network and back, stage by stage: `fastbp.explain`, as text and as a page."""

"""The page of `dwbench report`: records in, one self-contained HTML file out."""

"""Parts of `benchmarks.scale_sim`: what was measured, the road of a job, a group of workers, the picture."""

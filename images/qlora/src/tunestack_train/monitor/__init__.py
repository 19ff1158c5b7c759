"""gpu-monitor: what the GPUs do, sample by sample, for people, Prometheus and TensorBoard.

    nvml, host ─► samples ─► journal (gpu_metrics.jsonl), events (TensorBoard), prometheus ─► server

It needs nvidia-ml-py and nothing else outside the standard library, and runs without a GPU too.
"""

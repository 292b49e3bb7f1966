"""Networks: each a `ModelConfig` of plain values, importable without torch, and the modules it builds."""

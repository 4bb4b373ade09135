"""INT8 of dual encoders: each tower has candidates of its own, and one that none of them suits stays in fp32."""

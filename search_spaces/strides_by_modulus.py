"""Which inner stride wins: gcd of the two coset counts, or half of the inner circle? Five moduli that tell them apart.

Multiplication mod p has an outer circle of cosets and an inner one. At p = 97 (12 x 8) the published stride 4 is both
gcd(12, 8) and 8 / 2. At 73 (9 x 8), 89 (11 x 8), 113 (14 x 8) and 61 (10 x 6) the gcd is 1, 1, 2, 2 and the half
4, 4, 4, 3. A mechanism at a smaller scale: an MLP, not the published transformer.
30 trials of 60,000 steps, 1,800,000 trial-steps: about 35 minutes on 2 cores.
Smaller: --set modulus=73,97 --set seed=0,1 --set steps=5000 (4 trials, 20,000 trial-steps, a few seconds).
"""

from phasemap import Space

space = Space(
    modulus=[61, 73, 89, 97, 113],
    seed=range(6),
    task="modular_multiplication",
    data_fraction=0.5,
    model="mlp",
    width=128,
    learning_rate=1e-2,
    beta2=0.98,
    weight_decay=1.0,
    steps=60_000,
    evaluate_every=1_000,
    probe_every=2_000,
    probes="dimension+stride+spectrum",
)

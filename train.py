"""Train a small GPT inside the budget and print its bits per byte: the one file the loop edits.

    python train.py                          the preset and budget for this machine
    AUTORESEARCH_BUDGET=20 python train.py   a shorter run; prepare.py lists what else the environment says

prepare.py holds what may not change: data, tokenizer, budget and evaluation.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

started = time.perf_counter()

import prepare  # before torch: it says how waiting threads behave

# isort: split
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

SETTINGS = prepare.read_settings()
PRESET = SETTINGS.preset.name

# ---------------------------------------------------------------------------
# Constants: change these first
# ---------------------------------------------------------------------------

# Size, by preset
DEPTH = {"smoke": 2, "cpu": 2, "laptop": 6, "h100": 8}[PRESET]             # blocks
WIDTH = {"smoke": 64, "cpu": 64, "laptop": 384, "h100": 512}[PRESET]       # channels
HEAD_WIDTH = {"smoke": 32, "cpu": 32, "laptop": 64, "h100": 128}[PRESET]   # channels in a head
STEP_ROWS = {"smoke": 8, "cpu": 8, "laptop": 32, "h100": 256}[PRESET]      # rows in an optimizer step
PASS_ROWS = {"smoke": 8, "cpu": 8, "laptop": 16, "h100": 128}[PRESET]      # rows in a forward pass

# Model
MLP_RATIO = 4              # hidden channels of the MLP over WIDTH
PAIRS = {"smoke": 2**15, "cpu": 2**15, "laptop": 2**16, "h100": 2**17}[PRESET]   # rows of the pair table
WINDOW = {"smoke": 256, "cpu": 256, "laptop": 512, "h100": 1024}[PRESET]   # places a block looks back
FULL_EVERY = 4             # every n-th block, counted from the last, looks back over the whole row
VALUE_EVERY = 2            # a value embedding in every n-th block, counted from the last
ROPE_BASE = 10_000         # longest wavelength of the rotary embedding, in places
SOFTCAP = 15.0             # logits stay within plus or minus this
EMBEDDING_SCALE = 1.0      # standard deviation of a token embedding at the start

# Optimizer
MATRIX_LR = 0.03           # Muon: matrices inside the blocks
EMBEDDING_LR = 0.3         # AdamW: token and value embeddings, times (WIDTH / 768) ** -0.5
UNEMBEDDING_LR = 0.008     # AdamW: output matrix, times (WIDTH / 768) ** -0.5
SCALAR_LR = 0.02           # AdamW: one number a block
MOMENTUM = 0.95            # Muon
MOMENTUM_START = 0.85      # Muon, rising over MOMENTUM_STEPS
MOMENTUM_STEPS = 100       # steps
POLAR_STEPS = 5            # Muon: iterations towards an orthogonal matrix
WEIGHT_DECAY = 0.0         # Muon, times the learning rate
BETAS = (0.8, 0.95)        # AdamW
WARM_UP = 0.0              # share of the budget with a rising learning rate
WARM_DOWN = 0.5            # share of the budget with a falling one
FINAL_LR = 0.05            # share of the learning rate left at the end

# Run
COMPILE = SETTINGS.device == "cuda"   # on a CPU: 28 s to make a step of 67 ms 5 ms shorter
BLOCK = 256                # places whose logits are held at once on a CPU
LINES = 20                 # progress lines in a run
EXPLODED = 1.5             # stop when the loss is above this many times ln(vocabulary)

# ---------------------------------------------------------------------------
# Model
# ---------------------------------------------------------------------------


def norm(x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (x.size(-1),))


Rope = tuple[torch.Tensor, torch.Tensor]  # cosine and sine of each place and channel


def rotary_table(seq_len: int) -> Rope:
    """Cosine and sine, each (seq_len, 1, HEAD_WIDTH / 2)."""
    wavelength = ROPE_BASE ** (torch.arange(0, HEAD_WIDTH, 2, dtype=torch.float32) / HEAD_WIDTH)
    angle = torch.arange(seq_len, dtype=torch.float32)[:, None, None] / wavelength
    return angle.cos(), angle.sin()


def rotate(x: torch.Tensor, rope: Rope) -> torch.Tensor:
    """Turn each pair of channels by an angle that grows with the place: RoPE (Su et al. 2021)."""
    cos, sin = rope
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def window_mask(window: int, places: int, device: str) -> torch.Tensor | BlockMask | None:
    """Which places a place may see: tiles that flex attention skips on a GPU, a plain mask elsewhere."""

    def near(b: Any, h: Any, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        return (j <= i) & (i - j < window)

    if window >= places:
        return None  # all before it: SDPA knows that case, and is the fastest there
    if device == "cuda":
        return create_block_mask(near, None, None, places, places, device=device)
    place = torch.arange(places, device=device)
    return near(None, None, place[:, None], place[None, :])


class Attention(nn.Module):
    """Causal self-attention with normalised queries and keys, and a gated value embedding."""

    def __init__(self, has_value: bool) -> None:
        super().__init__()
        self.mask: torch.Tensor | BlockMask | None = None
        self.heads = WIDTH // HEAD_WIDTH
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate = nn.Parameter(torch.zeros(self.heads, 1)) if has_value else None

    def forward(self, x: torch.Tensor, extra: torch.Tensor | None, rope: Rope) -> torch.Tensor:
        shape = (*x.shape[:2], self.heads, HEAD_WIDTH)
        q = norm(rotate(self.query(x).view(shape), rope))
        k = norm(rotate(self.key(x).view(shape), rope))
        v = self.value(x).view(shape)
        if extra is not None and self.gate is not None:
            v = v + 2 * torch.sigmoid(self.gate) * extra.view(shape)
        q, k, v = (t.transpose(1, 2).to(v.dtype) for t in (q, k, v))
        if isinstance(self.mask, BlockMask):
            y = flex_attention(q, k, v, block_mask=self.mask)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, is_causal=self.mask is None)
        return self.out(y.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two matrices with a squared ReLU between them (So et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, MLP_RATIO * WIDTH, bias=False)
        self.down = nn.Linear(MLP_RATIO * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.relu(self.up(x)).square())


class Block(nn.Module):
    def __init__(self, has_value: bool) -> None:
        super().__init__()
        self.attention = Attention(has_value)
        self.mlp = MLP()
        self.keep = nn.Parameter(torch.ones(()))         # share of the stream that goes on
        self.again = nn.Parameter(torch.full((), 0.1))   # share of the token embedding added anew

    def forward(
        self, x: torch.Tensor, first: torch.Tensor, extra: torch.Tensor | None, rope: Rope
    ) -> torch.Tensor:
        x = self.keep * x + self.again * first
        x = x + self.attention(norm(x), extra, rope)
        return x + self.mlp(norm(x))


def softcap(logits: torch.Tensor) -> torch.Tensor:
    """Between plus and minus SOFTCAP: with a root, a CPU is done sooner than with the usual tanh."""
    return logits * SOFTCAP * (logits.square() + SOFTCAP**2).rsqrt()


class BlockLoss(torch.autograd.Function):
    """Mean cross-entropy of the softcapped output, and its gradient, a block of places at a time.

    Logits of a whole step do not fit a CPU's cache: done at once, they took half of the step.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        dx, dweight, total = torch.empty_like(x), torch.zeros_like(weight), x.new_zeros(())
        blocks = zip(x.split(BLOCK), y[:, None].split(BLOCK), dx.split(BLOCK), strict=True)
        for part, target, dpart in blocks:
            logits = part @ weight.T
            shrink = logits.square().add_(SOFTCAP**2).rsqrt_().mul_(SOFTCAP)
            logits.mul_(shrink)
            total -= logits.gather(1, target).sum()
            slope = logits.exp_()  # at most exp(SOFTCAP): needs no maximum taken off
            sums = slope.sum(1, keepdim=True)
            total += sums.log().sum()
            slope.div_(sums * len(y))
            slope.scatter_add_(1, target, slope.new_full(target.shape, -1 / len(y)))
            slope.mul_(shrink).mul_(shrink).mul_(shrink)  # the slope of softcap is shrink cubed
            torch.mm(slope, weight, out=dpart)
            dweight.addmm_(slope.T, part)
        ctx.save_for_backward(dx, dweight)
        return total / len(y)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dx, dweight = ctx.saved_tensors
        return dx * gradients[0], dweight * gradients[0], None


def pair_index(tokens: torch.Tensor) -> torch.Tensor:
    """A hash of each token and the one before it; pairs that share a row learn to live with it."""
    before = F.pad(tokens, (1, 0))[:, :-1]
    return (tokens * 27_191 + before * 36_313) % PAIRS


class GPT(nn.Module):
    """tokens (rows, places) -> logits (rows, places, vocabulary)."""

    def __init__(self, vocab_size: int, seq_len: int) -> None:
        super().__init__()
        has_value = [(DEPTH - 1 - i) % VALUE_EVERY == 0 for i in range(DEPTH)]
        self.embedding = nn.Embedding(vocab_size, WIDTH)
        self.pairs = nn.Embedding(PAIRS, WIDTH)
        self.values = nn.ModuleDict(
            {str(i): nn.Embedding(vocab_size, WIDTH) for i in range(DEPTH) if has_value[i]}
        )
        self.blocks = nn.ModuleList(Block(has) for has in has_value)
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)
        cos, sin = rotary_table(seq_len)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.start_weights()

    @torch.no_grad()
    def start_weights(self) -> None:
        bound = (3 / WIDTH) ** 0.5  # uniform with a variance of 1 / WIDTH
        for name, weight in self.named_parameters():
            if name.endswith(("out.weight", "down.weight", "pairs.weight")):
                weight.zero_()  # each block starts as the identity
            elif name.startswith("embedding"):
                weight.normal_(0, EMBEDDING_SCALE)
            elif name.startswith("head"):
                weight.normal_(0, 0.001)
            elif weight.ndim == 2 and not name.endswith("gate"):
                weight.uniform_(-bound, bound)

    def features(self, tokens: torch.Tensor) -> torch.Tensor:
        """(rows, places) -> (rows, places, WIDTH): all but the output matrix."""
        rope = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        x = first = norm(self.embedding(tokens) + self.pairs(pair_index(tokens)))
        for index, block in enumerate(self.blocks):
            extra = self.values[str(index)](tokens) if str(index) in self.values else None
            x = block(x, first, extra, rope)
        return norm(x)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return softcap(self.head(self.features(tokens)).float())

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats a token."""
        if x.device.type == "cpu":
            return BlockLoss.apply(self.features(x).flatten(0, 1), self.head.weight, y.flatten())
        return F.cross_entropy(self(x).flatten(0, 1), y.flatten())

    def flops_per_token(self) -> float:
        """Forward and backward: 6 for each weight of a matrix product, 12 for each place attended to."""
        matrices = sum(p.numel() for p in self.blocks.parameters() if p.ndim == 2)
        attended = DEPTH * WIDTH * SETTINGS.preset.seq_len / 2
        return 6 * (matrices + self.head.weight.numel()) + 12 * attended


# ---------------------------------------------------------------------------
# Optimizer: Muon for matrices, AdamW for the rest
# ---------------------------------------------------------------------------

# Coefficients of the odd polynomials that drive singular values to 1: Amsel et al. 2025 (polar express).
POLAR = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonal(matrices: torch.Tensor, steps: int) -> torch.Tensor:
    """The nearest orthogonal matrix of each in (n, rows, columns), nearly."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x.bfloat16() if x.is_cuda else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    for a, b, c in POLAR[:steps]:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Nesterov momentum made orthogonal (Jordan et al. 2024); matrices of one shape in one go."""

    def __init__(self, params: list[nn.Parameter], lr: float) -> None:
        shapes = sorted({p.shape for p in params})
        groups = [{"params": [p for p in params if p.shape == shape]} for shape in shapes]
        super().__init__(groups, {"lr": lr, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params = group["params"]
            gradient = torch.stack([p.grad for p in params])
            state = self.state[params[0]]
            average = state.setdefault("average", torch.zeros_like(gradient))
            average.lerp_(gradient, 1 - group["momentum"])
            update = orthogonal(gradient.lerp(average, group["momentum"]), POLAR_STEPS)
            rows, columns = params[0].shape
            rate = group["lr"] * max(1.0, rows / columns) ** 0.5
            if group["weight_decay"]:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(params, list(update.to(params[0].dtype).unbind()), alpha=-rate)


def optimizers_for(model: GPT) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2 and p.shape[1] > 1]
    scalars = [p for p in model.blocks.parameters() if p.ndim < 2 or p.shape[1] == 1]
    scale = (WIDTH / 768) ** -0.5
    groups = [
        {"params": [model.embedding.weight, model.pairs.weight], "lr": EMBEDDING_LR * scale},
        {"params": list(model.values.parameters()), "lr": EMBEDDING_LR * scale},
        {"params": [model.head.weight], "lr": UNEMBEDDING_LR * scale},
        {"params": scalars, "lr": SCALAR_LR},
    ]
    adam = torch.optim.AdamW(groups, betas=BETAS, eps=1e-10, weight_decay=0.0, fused=True)
    optimizers = [Muon(matrices, MATRIX_LR), adam]
    for group in (g for o in optimizers for g in o.param_groups):
        group["full_lr"] = group["lr"]
    return optimizers


def schedule(optimizers: list[torch.optim.Optimizer], progress: float, step: int) -> float:
    """Set learning rates and momentum for this step; returns the share of the full learning rate."""
    share = 1.0
    if progress < WARM_UP:
        share = progress / WARM_UP
    elif progress > 1 - WARM_DOWN:
        share = FINAL_LR + (1 - FINAL_LR) * (1 - progress) / WARM_DOWN
    momentum = MOMENTUM_START + (MOMENTUM - MOMENTUM_START) * min(1.0, step / MOMENTUM_STEPS)
    for group in (g for o in optimizers for g in o.param_groups):
        group["lr"] = group["full_lr"] * share
        if "momentum" in group:
            group["momentum"] = momentum
    return share


# ---------------------------------------------------------------------------
# Device
# ---------------------------------------------------------------------------

# Number format of matrix products. On a CPU bfloat16 saved 3 % of a step; on MPS nobody measured it.
dtype = torch.float32
if SETTINGS.device == "cuda":
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
scaler = torch.amp.GradScaler(SETTINGS.device, enabled=dtype == torch.float16)


def autocast() -> contextlib.AbstractContextManager[None]:
    lower = dtype != torch.float32
    return torch.autocast(SETTINGS.device, dtype) if lower else contextlib.nullcontext()


def build() -> GPT:
    """The untrained model on its device; `prepare.py --score` begins here as well."""
    preset, device = SETTINGS.preset, SETTINGS.device
    torch.manual_seed(SETTINGS.seed)
    torch.set_float32_matmul_precision("high")
    prepare.keep_freed_memory()
    if preset.threads:
        torch.set_num_threads(preset.threads)
    if SETTINGS.deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.use_deterministic_algorithms(True)
    model = GPT(preset.vocab_size, preset.seq_len).to(device)
    mask = window_mask(WINDOW, preset.seq_len, device)
    for index, block in enumerate(model.blocks):
        block.attention.mask = mask if (DEPTH - 1 - index) % FULL_EVERY else None
    if COMPILE and not SETTINGS.deterministic:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(SETTINGS.data / "compiled"))  # kept between runs
        torch._dynamo.config.suppress_errors = True  # what does not compile runs as it is
        model.compile(dynamic=False)
    return model


# ---------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------


def backward(model: GPT, batches: Iterator[prepare.Batch]) -> float:
    """Gradients of one step, over as many passes as it takes; returns the mean loss."""
    passes = STEP_ROWS // PASS_ROWS
    total = 0.0
    for _ in range(passes):
        x, y = next(batches)
        with autocast():
            loss = model.loss(x, y) / passes
        scaler.scale(loss).backward()
        total += loss.item()
    return total


def stop_if_lost(loss: float, step: int) -> None:
    limit = EXPLODED * math.log(SETTINGS.preset.vocab_size)
    if not math.isfinite(loss):
        raise prepare.Refused(f"not finite: the loss is {loss} at step {step}")
    if loss > limit:
        raise prepare.Refused(f"diverged: the loss is {loss:.2f}, above {limit:.2f}, at step {step}")


def train(model: GPT, data: prepare.Data, budget: prepare.Budget) -> None:
    optimizers = optimizers_for(model)
    batches = data.batches(PASS_ROWS, SETTINGS, budget)
    if COMPILE:
        budget.warm_up(model, lambda: backward(model, batches))
        model.zero_grad()
    budget.start()
    smooth, shown = 0.0, 0.0
    while not budget.done:
        progress = budget.progress
        share = schedule(optimizers, progress, budget.steps)
        loss = backward(model, batches)
        stop_if_lost(loss, budget.steps)
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()
        model.zero_grad()
        budget.step()
        smooth += (loss - smooth) * max(0.05, 1 / budget.steps)
        if progress >= shown or budget.done:
            shown = progress + 1 / LINES
            rate = budget.tokens / budget.wall_seconds
            print(
                f"step {budget.steps:05d} | {100 * progress:3.0f} % | loss {smooth:.4f} | "
                f"rate {share:.2f} | {rate:,.0f} tokens/s",
                flush=True,
            )
            prepare.add_to_curve(SETTINGS, budget, loss=loss, smooth_loss=smooth, rate=share)
        if budget.steps == 1:
            gc.collect()
            gc.freeze()  # the garbage collector need not walk the model again


def rows_that_fit(model: GPT) -> int:
    """The largest half, quarter, ... of PASS_ROWS with which a pass goes through: tried, not guessed."""
    rows = PASS_ROWS // 2
    while rows:
        x = torch.zeros(rows, SETTINGS.preset.seq_len, dtype=torch.long, device=SETTINGS.device)
        model.zero_grad()
        try:
            with autocast():
                model.loss(x, x).backward()
            break
        except RuntimeError:
            rows //= 2
    return rows


def main() -> None:
    if STEP_ROWS % PASS_ROWS:
        raise prepare.Refused(f"STEP_ROWS = {STEP_ROWS} is no multiple of PASS_ROWS = {PASS_ROWS}")
    model = build()
    data = prepare.open_data(SETTINGS)
    params = sum(p.numel() for p in model.parameters())
    budget = prepare.Budget(SETTINGS.budget_kind, SETTINGS.budget_amount, SETTINGS.device)
    print(
        f"preset {PRESET} on {SETTINGS.device}, budget {budget.kind}:{budget.amount:g}, "
        f"depth {DEPTH}, width {WIDTH}, {params / 1e6:.2f} M parameters, "
        f"{STEP_ROWS * SETTINGS.preset.seq_len} tokens a step, seed {SETTINGS.seed}",
        flush=True,
    )
    result = held = None
    try:
        train(model, data, budget)
        model.eval()
        with autocast():
            result = prepare.evaluate_bpb(model, data, SETTINGS, budget)
            if SETTINGS.heldout:
                held = prepare.evaluate_bpb(model, data, SETTINGS, budget, "heldout")
    except RuntimeError as error:  # torch.OutOfMemoryError is one; a CPU has only the words
        if "memory" not in str(error):
            raise
        result = None
    if result is None:  # not in the handler: there, what the failed pass held would still be held
        rows = rows_that_fit(model)
        way_out = f"try PASS_ROWS = {rows}" if rows else "one row is too much, make the model smaller"
        raise prepare.Refused(f"out of memory with {PASS_ROWS} rows in a pass: {way_out}")
    constants = {k: v for k, v in globals().items() if k.isupper() and isinstance(v, int | float | tuple)}
    prepare.export(model, Path(__file__), data, SETTINGS, constants)
    flops = model.flops_per_token()
    prepare.report(result, data, SETTINGS, budget, started, flops, dtype, params, DEPTH, held)


if __name__ == "__main__":
    main()

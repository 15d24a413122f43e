#!/usr/bin/env python3
"""What PyTorch, transformers and PEFT do on this card, at the shapes of tests/gpu/README.md.

    peers.py [--records FILE]

Random weights, rank 16 on all linear layers, dropout 0, AdamW; tokens/s are the median of the timed
steps. Flash attention of torch is the roof that our own attention is compared with.
"""

import argparse
import json
import statistics
import time

import torch

LLAMA_8B = dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                num_attention_heads=32, num_key_value_heads=8, vocab_size=128256,
                max_position_embeddings=8192, rope_theta=500000.0)
SMOLLM2 = dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
               num_attention_heads=9, num_key_value_heads=3, vocab_size=49152,
               max_position_embeddings=8192, tie_word_embeddings=True)
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def milliseconds(run, repetitions=10):
    for _ in range(3):
        run()
    times = []
    for _ in range(repetitions):
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def matmul(record):
    for n in (4096, 8192):
        a = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
        b = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
        ms = milliseconds(lambda: a @ b.T)
        record(ask="torch matmul", n=n, tflops=round(2 * n**3 / ms / 1e9, 1))


def attention(record):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention
    for batch, length in ((1, 4096), (4, 1024), (32, 128)):
        q = torch.randn(batch, 32, length, 128, device="cuda", dtype=torch.bfloat16,
                        requires_grad=True)
        k, v = (torch.randn(batch, 8, length, 128, device="cuda", dtype=torch.bfloat16,
                            requires_grad=True) for _ in range(2))
        grad = torch.randn_like(q)
        flops = 2 * 2 * batch * 32 * length * length * 128 / 2  # Causal: half.
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
            with sdpa_kernel(backend):
                def forward():
                    return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
                try:
                    ahead = milliseconds(forward)
                    out = forward()
                    back = milliseconds(lambda: torch.autograd.grad(
                        out, (q, k, v), grad, retain_graph=True))
                except RuntimeError as error:
                    record(ask="attention", backend=backend.name, error=str(error)[:200])
                    continue
            record(ask="attention", backend=backend.name, batch=batch, length=length,
                   forward_us=round(1000 * ahead), forward_tflops=round(flops / ahead / 1e9),
                   backward_us=round(1000 * back), backward_tflops=round(2.5 * flops / back / 1e9))


def attention_bytes(record):
    """Do a document's bytes depend on its neighbours in the batch? Twice the same?"""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention
    for length in (1000, 1024, 4096):
        q = torch.randn(3, 32, length, 128, device="cuda", dtype=torch.bfloat16)
        k, v = (torch.randn(3, 8, length, 128, device="cuda", dtype=torch.bfloat16)
                for _ in range(2))
        grad = torch.randn_like(q)

        def run(begin, end, q=q, k=k, v=v, grad=grad):
            inputs = [t[begin:end].clone().requires_grad_() for t in (q, k, v)]
            out = scaled_dot_product_attention(*inputs, is_causal=True, enable_gqa=True)
            return [out, *torch.autograd.grad(out, inputs, grad[begin:end])]

        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
            for deterministic in (False, True):
                torch.use_deterministic_algorithms(deterministic)
                with sdpa_kernel(backend):
                    try:
                        whole, again = run(0, 3), run(0, 3)
                        alone = [run(i, i + 1) for i in range(3)]
                        record(ask="attention bytes", backend=backend.name, length=length,
                               deterministic=deterministic,
                               again=[torch.equal(a, b) for a, b in zip(whole, again)],
                               alone=[all(torch.equal(whole[i][j], alone[j][i][0])
                                          for j in range(3)) for i in range(4)])
                    except RuntimeError as error:
                        record(ask="attention bytes", backend=backend.name, length=length,
                               deterministic=deterministic, error=str(error)[:200])
    torch.use_deterministic_algorithms(False)


def training(record, name, config, batches, steps):
    import peft
    import transformers
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
            **config, attn_implementation="sdpa"))
        torch.set_default_dtype(torch.float32)
        model = peft.get_peft_model(model, peft.LoraConfig(
            r=16, lora_alpha=32, lora_dropout=0.0, target_modules=LINEARS,
            task_type="CAUSAL_LM"), autocast_adapter_dtype=False)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4,
                                  fused=True)
    for batch, length in batches:
        tokens = torch.randint(0, config["vocab_size"], (batch, length), device="cuda")
        torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(2 + steps):
            begin = time.perf_counter()
            model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        record(ask="peft", model=name, batch=batch, length=length,
               tokens_per_s=round(batch * length / statistics.median(times[2:])),
               peak_gb=round(torch.cuda.max_memory_allocated() / 1e9, 2))
    del model, optimizer
    torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", help="JSON lines are added to this file")
    arguments = parser.parse_args()

    def record(**values):
        line = json.dumps(values)
        print(line, flush=True)
        if arguments.records:
            with open(arguments.records, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    record(ask="torch", version=torch.__version__, card=torch.cuda.get_device_name())
    matmul(record)
    attention(record)
    attention_bytes(record)
    training(record, "SmolLM2-135M", SMOLLM2, ((1, 512), (4, 128), (8, 512)), 10)
    training(record, "Llama-3.1-8B", LLAMA_8B, ((1, 4096), (4, 1024)), 4)


if __name__ == "__main__":
    main()

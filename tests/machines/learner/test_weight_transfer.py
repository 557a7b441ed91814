"""Weights on their way from learner to vLLM on a CPU, over verl's own wire."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs ray, verl and vLLM: `make env`")

import ray
import torch
import zmq
from safetensors.torch import save_file

from actors.cpu.environment import cpu_environment
from actors.cpu.weights import WatchedSocket, bucket_mb
from helpers.places import ROOT

# An embedding of 2 MiB that is tied to the head: with buckets of 2 MiB it fills one of its own, the
# head comes in another, and vLLM refuses either without the other.
TIED = """
import asyncio, sys, threading
from pathlib import Path
import torch
from transformers import LlamaConfig, LlamaForCausalLM

def model(seed):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=8192, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, max_position_embeddings=64,
        tie_word_embeddings=True, initializer_range=0.2))

folder = Path(sys.argv[1])
model(1).save_pretrained(folder)
from actors import plugin
plugin.require()
from vllm import LLM, SamplingParams
llm = LLM(str(folder), skip_tokenizer_init=True, dtype="float32", enforce_eager=True,
          max_model_len=32, distributed_executor_backend="uni", disable_log_stats=True,
          worker_extension_cls="actors.cpu.vllm_worker.CPUWorkerExtension")
from actors.cpu.weights import MIN_BUCKET_MB, bucket_mb
from actors.cpu.vllm_adapter import WatchedSender
assert bucket_mb(folder) == MIN_BUCKET_MB
[handle] = llm.collective_rpc("_get_zmq_handle")
learned = model(2).eval()
sent = [(name, weight.detach()) for name, weight in learned.state_dict().items()]
assert {"lm_head.weight", "model.embed_tokens.weight"} <= {name for name, _ in sent}
assert sum(weight.nbytes for _, weight in sent) > 2 * 2**21  # three buckets at least

def send():
    sender = WatchedSender(handle, bucket_size_mb=2, use_shm=True)
    asyncio.run(sender.async_send_weights(iter(sent)))

thread = threading.Thread(target=send)
thread.start()
llm.collective_rpc("update_weights_from_ipc", kwargs={"use_shm": True})
thread.join()
prompt = [5, 77, 4000, 8000, 3]
[output] = llm.generate({"prompt_token_ids": prompt},
                        SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False))
found = [row[token].logprob for row, token in zip(output.prompt_logprobs[1:], prompt[1:])]
logits = learned(torch.tensor([prompt])).logits[0].log_softmax(-1)
wanted = [logits[place, token].item() for place, token in enumerate(prompt[1:])]
worst = max(abs(a - b) for a, b in zip(found, wanted))
assert worst < 1e-4, (found, wanted)
print("agree to", worst)
"""


@pytest.mark.slow
def test_a_tied_model_in_several_buckets_arrives_whole(tmp_path: Path) -> None:
    before = buffers()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TIED, str(tmp_path / "model")],
        cwd=ROOT,
        env={
            **os.environ,
            **cpu_environment(learner_threads=1, cache_gb=1),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "agree to" in done.stdout
    assert buffers() <= before


def buffers() -> set[Path]:
    """Those of verl's that lie in shared memory."""
    return set(Path("/dev/shm").glob("verl_weights*"))


def test_the_buffer_holds_the_largest_tensor_in_32_bits(tmp_path: Path) -> None:
    assert bucket_mb(tmp_path) == 64  # no weights: nothing to send
    # 49,152 x 576 of bf16 are 108 MiB in 32 bits; the other file's tensor is smaller.
    embedding = torch.zeros(49152, 576, dtype=torch.bfloat16)
    save_file({"embedding": embedding}, tmp_path / "model-1.safetensors")
    save_file({"other": torch.zeros(7, 3)}, tmp_path / "model-2.safetensors")
    assert bucket_mb(tmp_path) == 108
    save_file({"embedding": torch.zeros(1, 2**18 * 65 + 1)}, tmp_path / "model-2.safetensors")
    assert bucket_mb(tmp_path) == 108
    save_file({"embedding": torch.zeros(1, 2**18 * 108 + 1)}, tmp_path / "model-2.safetensors")
    assert bucket_mb(tmp_path) == 109


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    socket = zmq.Context.instance().socket(zmq.REQ)
    try:
        socket.bind(f"ipc://{tmp_path}/socket")
        watched = WatchedSocket(socket, None, limit_s=0)
        with pytest.raises(RuntimeError, match="vLLM received no weights for 0 s"):
            watched.send_pyobj({})
    finally:
        socket.close(linger=0)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_error_of_a_vllm_that_failed_is_the_senders(tmp_path: Path) -> None:
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:

        @ray.remote(num_cpus=0)
        def receive() -> None:
            raise LookupError("'lm_head.weight' was skipped")

        @ray.remote(num_cpus=0)
        def leave() -> None:
            return

        socket = zmq.Context.instance().socket(zmq.REQ)
        socket.bind(f"ipc://{tmp_path}/socket")
        try:
            with pytest.raises(LookupError, match="was skipped"):
                WatchedSocket(socket, receive.remote()).send_pyobj({})
            with pytest.raises(RuntimeError, match="stopped receiving"):
                WatchedSocket(socket, leave.remote()).send_pyobj({})
        finally:
            socket.close(linger=0)
    finally:
        if is_ours:
            ray.shutdown()

"""Looks for nvcc once, when the workspace is loaded: $NVCC, then PATH, then /usr/local/cuda.

@local_cuda//:defs.bzl tells HAVE_NVCC and NVCC. Bazel runs this again when NVCC, CUDA_HOME or
PATH change.
"""

def _cuda_configure_impl(repository_ctx):
    nvcc = repository_ctx.os.environ.get("NVCC")
    if not nvcc:
        found = repository_ctx.which("nvcc")
        nvcc = str(found) if found else ""
    if not nvcc:
        home = repository_ctx.os.environ.get("CUDA_HOME", "/usr/local/cuda")
        if repository_ctx.path(home + "/bin/nvcc").exists:
            nvcc = home + "/bin/nvcc"
    repository_ctx.file("BUILD", "")
    repository_ctx.file(
        "defs.bzl",
        "HAVE_NVCC = {}\nNVCC = {}\n".format(bool(nvcc), repr(nvcc)),
    )

cuda_configure = repository_rule(
    implementation = _cuda_configure_impl,
    environ = ["NVCC", "CUDA_HOME", "PATH"],
    local = True,
)

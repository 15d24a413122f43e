"""Looks for nvcc once, when the workspace is loaded: $NVCC, then PATH, then $CUDA_HOME or
/usr/local/cuda, then where deploy/setup --cuda installs it.

@local_cuda//:defs.bzl tells HAVE_NVCC, NVCC and CUDART_LINKOPTS. Bazel runs this again when NVCC, CUDA_HOME or
PATH change.
"""

def _cuda_configure_impl(repository_ctx):
    nvcc = repository_ctx.os.environ.get("NVCC")
    if not nvcc:
        found = repository_ctx.which("nvcc")
        nvcc = str(found) if found else ""
    if not nvcc:
        environ = repository_ctx.os.environ
        for home in [
            environ.get("CUDA_HOME", "/usr/local/cuda"),
            environ.get("HOME", "/root") + "/.cache/deltaworks/cuda/nvidia/cu13",
        ]:
            if not nvcc and repository_ctx.path(home + "/bin/nvcc").exists:
                nvcc = home + "/bin/nvcc"
    repository_ctx.file("BUILD", "")

    # The toolkit's runtime as an archive: a program needs nothing of CUDA to start.
    folder = repository_ctx.path(nvcc).realpath.dirname.dirname if nvcc else ""
    linkopts = ["-L%s/lib64" % folder, "-L%s/lib" % folder]
    linkopts += ["-lcudart_static", "-ldl", "-lrt", "-lpthread"]
    repository_ctx.file(
        "defs.bzl",
        "HAVE_NVCC = {}\nNVCC = {}\nCUDART_LINKOPTS = {}\n".format(
            bool(nvcc),
            repr(nvcc),
            linkopts if nvcc else [],
        ),
    )

cuda_configure = repository_rule(
    implementation = _cuda_configure_impl,
    environ = ["NVCC", "CUDA_HOME", "HOME", "PATH"],
    local = True,
)

"""CUDA targets: compiled wherever nvcc was found when the workspace was loaded, else absent."""

load("@local_cuda//:defs.bzl", "HAVE_NVCC", "NVCC")

# sm_90a is Hopper with its own instructions; PTX lets later cards compile for themselves.
# -Wno-missing-field-initializers: designated initialisers name what differs from the defaults.
NVCCOPTS = " ".join([
    "-std=c++20",
    "-O2",
    "-gencode=arch=compute_90a,code=sm_90a",
    "-gencode=arch=compute_90,code=compute_90",
    "-Werror all-warnings",
    "-Xcompiler -Wall,-Wextra,-Werror,-Wno-missing-field-initializers",
    "-I.",
])

def cuda_binary(name, srcs, hdrs = [], linkopts = []):
    """A program from .cu and .cc files, all of them by nvcc, which links its runtime statically."""
    if not HAVE_NVCC:
        return
    native.genrule(
        name = name,
        srcs = srcs + hdrs,
        outs = [name + "_program"],
        cmd = "%s %s %s -o $@ %s" % (
            NVCC,
            NVCCOPTS,
            " ".join(["$(location %s)" % src for src in srcs]),
            " ".join(linkopts),
        ),
        executable = True,
    )

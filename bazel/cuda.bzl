"""CUDA targets: compiled by nvcc wherever it was found when the workspace was loaded, and on the
CPU, emulated, everywhere."""

load("//bazel:cc.bzl", "dw_library")
load("@local_cuda//:defs.bzl", "CUDART_LINKOPTS", "HAVE_NVCC", "NVCC")

# sm_90a is Hopper with its own instructions; PTX lets later cards compile for themselves.
# -Wno-missing-field-initializers: designated initialisers name what differs from the defaults.
# -Wno-sign-compare: as in cc.bzl.
NVCCOPTS = " ".join([
    "-std=c++20",
    "-O2",
    "-gencode=arch=compute_90a,code=sm_90a",
    "-gencode=arch=compute_90,code=compute_90",
    "-Werror all-warnings",
    "-Xcompiler -fPIC,-Wall,-Wextra,-Werror,-Wno-missing-field-initializers,-Wno-sign-compare",
    "-I.",
])

# nvcc names its temporary files by its process id, which in a sandbox is always the same.
OWN_TMPDIR = "export TMPDIR=$$(mktemp -d) && trap 'rm -rf $$TMPDIR' EXIT && "

def cuda_binary(name, srcs, hdrs = [], linkopts = []):
    """A program from .cu and .cc files, all of them by nvcc, which links its runtime statically."""
    if not HAVE_NVCC:
        return
    native.genrule(
        name = name,
        srcs = srcs + hdrs,
        outs = [name + "_program"],
        cmd = OWN_TMPDIR + "%s %s %s -o $@ %s" % (
            NVCC,
            NVCCOPTS,
            " ".join(["$(location %s)" % src for src in srcs]),
            " ".join(linkopts),
        ),
        executable = True,
    )

def cuda_library(name, srcs, hdrs, without = [], deps = [], **kwargs):
    """A library whose sources nvcc compiles; CUDA's runtime is linked statically, and looks for the
    driver when it is first called.

    Args:
      name: of the library.
      srcs: .cu and .cc files; `hdrs` are all headers of this tree that they include.
      hdrs: see srcs.
      without: ordinary sources that stand in for `srcs` where there is no nvcc.
      deps: what the library links with.
      **kwargs: as of cc_library.
    """
    if not HAVE_NVCC:
        dw_library(name = name, srcs = without, alwayslink = True, deps = deps, **kwargs)
        return
    objects = []
    for src in srcs:
        object = src.replace(".", "_") + ".o"
        objects.append(object)
        native.genrule(
            name = name + "_" + src.replace(".", "_").replace("/", "_"),
            srcs = [src] + hdrs,
            outs = [object],
            cmd = OWN_TMPDIR + "%s %s -c $(location %s) -o $@" % (NVCC, NVCCOPTS, src),
        )
    native.cc_library(
        name = name,
        srcs = objects,
        linkopts = CUDART_LINKOPTS,
        # Which of them a program links is decided by what it depends on, not by who calls them.
        alwayslink = True,
        deps = deps,
        **kwargs
    )

def cuda_only(rule, **kwargs):
    """A target that makes no sense where there is no nvcc."""
    if HAVE_NVCC:
        rule(**kwargs)

def emulated_cuda_library(name, srcs, hdrs, deps = [], **kwargs):
    """The same .cu files as plain C++, on //trainer/backend/cuda/emulation."""
    wrappers = []
    for src in srcs:
        wrapper = src.replace(".cu", "_emulated.cc")
        wrappers.append(wrapper)
        native.genrule(
            name = name + "_" + src.replace(".", "_"),
            outs = [wrapper],
            cmd = "echo '#include \"%s/%s\"' > $@" % (native.package_name(), src),
        )
    native.cc_library(
        name = name + "_sources",
        testonly = True,
        textual_hdrs = srcs,
        visibility = ["//visibility:private"],
    )
    dw_library(
        name = name,
        testonly = True,
        srcs = wrappers + hdrs,
        # Unrolling is asked for in nvcc's words.
        copts = ["-Wno-unknown-pragmas"],
        alwayslink = True,
        deps = deps + [":" + name + "_sources"],
        **kwargs
    )

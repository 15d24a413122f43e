"""C++ targets of this project: the native rules plus our warnings, all of them errors.

dw_library, dw_binary and dw_test take the arguments of cc_library, cc_binary and cc_test.
"""

# -Wno-sign-compare: sizes are int64_t in our interfaces and size_t in the containers.
# -Wno-missing-field-initializers: designated initialisers name what differs from the defaults.
COPTS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-sign-compare",
    "-Wno-missing-field-initializers",
    "-Wnon-virtual-dtor",
    "-Woverloaded-virtual",
    "-Wcast-qual",
    "-Wvla",
    # One meaning of a*b+c everywhere; kernels that want a fused multiply-add say so.
    "-ffp-contract=off",
]

def dw_library(name, copts = [], **kwargs):
    native.cc_library(name = name, copts = COPTS + copts, **kwargs)

def dw_binary(name, copts = [], **kwargs):
    native.cc_binary(name = name, copts = COPTS + copts, **kwargs)

def dw_test(name, copts = [], deps = [], size = "small", main = True, **kwargs):
    """A GoogleTest program. main = False when a source brings its own main()."""
    native.cc_test(
        name = name,
        size = size,
        copts = COPTS + copts,
        deps = deps + ["//bazel/system:gtest_main" if main else "//bazel/system:gtest"] + select({
            "//bazel:tsan": ["//bazel:tsan_suppressions"],
            "//conditions:default": [],
        }),
        **kwargs
    )

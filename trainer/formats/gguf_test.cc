// GGUF files built by hand: each type dequantised against numbers worked out on paper, and each
// field of the header made to lie.

#include "trainer/formats/gguf.h"

#include <cmath>
#include <functional>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/formats/gguf_builder.h"

namespace deltaworks::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint16_t kHalfOne = 0x3c00;
constexpr uint16_t kHalfTwo = 0x4000;
constexpr uint16_t kHalfMinusHalf = 0xb800;

template <typename T>
std::string Bytes(const T& value) {
  return GgufBuilder::Bytes(value);
}

std::vector<float> Dequantized(const Gguf& gguf, const std::string& name) {
  const GgufTensor* tensor = gguf.Find(name);
  EXPECT_NE(tensor, nullptr) << name;
  std::vector<float> values(tensor->rows() * tensor->row_elements());
  DequantizeRows(*tensor, 0, tensor->rows(), absl::MakeSpan(values));
  return values;
}

Gguf Parsed(const std::string& file) {
  auto result = ParseGguf(file, "x");
  EXPECT_TRUE(result.ok()) << result.status();
  return *std::move(result);
}

// One of everything.
GgufBuilder Sample() {
  GgufBuilder builder;
  builder.AddUint32("general.alignment", 32);
  builder.AddString("name", "tiny");
  builder.AddFloat32("eps", 1e-5f);
  builder.AddBool("flag", true);
  builder.AddInt64("big", int64_t{-5'000'000'000});
  builder.AddStrings("words", {"", "a", "\xc4\xa0t"});
  builder.AddInt32s("numbers", {-1, 0, 7});
  builder.AddFloat32s("floats", {0.5f, 2});
  builder.AddFloatTensor("plain", {3, 2}, {1, 2, 3, 4, 5, 6});
  std::string q8 = Bytes(kHalfTwo);
  for (int i = 0; i < 32; ++i) q8 += static_cast<char>(i - 16);
  builder.AddTensor({.name = "q8", .dimensions = {32}, .type = 8, .data = q8});
  return builder;
}

std::string ErrorOf(const std::string& file) {
  const auto result = ParseGguf(file, "x");
  EXPECT_TRUE(result.ok() || absl::IsInvalidArgument(result.status())) << result.status();
  return std::string(result.status().message());
}

// The error of Sample() after `lie`.
std::string ErrorAfter(const std::function<void(GgufBuilder&)>& lie) {
  GgufBuilder builder = Sample();
  lie(builder);
  return ErrorOf(builder.Build());
}

TEST(GgufTest, MetadataOfEveryKindIsRead) {
  const std::string file = Sample().Build();
  const Gguf gguf = Parsed(file);
  EXPECT_EQ(gguf.version(), 3);
  EXPECT_EQ(*gguf.String("name"), "tiny");
  EXPECT_EQ(*gguf.Float("eps"), 1e-5) << "the shortest decimal, not the f32's digits";
  EXPECT_TRUE(*gguf.Bool("flag"));
  EXPECT_EQ(*gguf.Int("big"), -5'000'000'000);
  EXPECT_THAT(*gguf.Strings("words"), ElementsAre("", "a", "\xc4\xa0t"));
  EXPECT_THAT(*gguf.Ints("numbers"), ElementsAre(-1, 0, 7));
  EXPECT_THAT(*gguf.Floats("floats"), ElementsAre(0.5, 2.0));
}

TEST(GgufTest, EveryScalarTypeIsRead) {
  GgufBuilder builder;
  builder.AddRaw("u8", 0, Bytes<uint8_t>(200));
  builder.AddRaw("i8", 1, Bytes<int8_t>(-100));
  builder.AddRaw("u16", 2, Bytes<uint16_t>(60000));
  builder.AddRaw("i16", 3, Bytes<int16_t>(-30000));
  builder.AddRaw("u32", 4, Bytes<uint32_t>(4'000'000'000));
  builder.AddRaw("i32", 5, Bytes<int32_t>(-2'000'000'000));
  builder.AddRaw("u64", 10, Bytes<uint64_t>(1));
  builder.AddRaw("i64", 11, Bytes<int64_t>(-1));
  builder.AddRaw("f64", 12, Bytes<double>(0.1));
  const std::string file = builder.Build();
  const Gguf gguf = Parsed(file);
  EXPECT_EQ(*gguf.Int("u8"), 200);
  EXPECT_EQ(*gguf.Int("i8"), -100);
  EXPECT_EQ(*gguf.Int("u16"), 60000);
  EXPECT_EQ(*gguf.Int("i16"), -30000);
  EXPECT_EQ(*gguf.Int("u32"), 4'000'000'000);
  EXPECT_EQ(*gguf.Int("i32"), -2'000'000'000);
  EXPECT_EQ(*gguf.Int("u64"), 1);
  EXPECT_EQ(*gguf.Int("i64"), -1);
  EXPECT_EQ(*gguf.Float("f64"), 0.1);
}

TEST(GgufTest, AKeyThatIsAbsentOrOfAnotherTypeIsNamed) {
  const std::string file = Sample().Build();
  const Gguf gguf = Parsed(file);
  EXPECT_EQ(gguf.Int("missing").status().message(), "x: missing is absent, want an integer");
  EXPECT_EQ(gguf.Int("name").status().message(), "x: name is of type string, want an integer");
  EXPECT_EQ(gguf.Int("flag").status().message(), "x: flag is of type bool, want an integer");
  EXPECT_EQ(gguf.String("words").status().message(),
            "x: words is an array of string, want a string");
  EXPECT_FALSE(gguf.Float("numbers").ok());
  EXPECT_FALSE(gguf.Bool("big").ok());
  EXPECT_FALSE(gguf.Ints("words").ok());
  EXPECT_FALSE(gguf.Floats("numbers").ok());
  EXPECT_FALSE(gguf.Strings("numbers").ok());
}

TEST(GgufTest, ShapesAreOutermostFirstAndRowsAreRead) {
  const std::string file = Sample().Build();
  const Gguf gguf = Parsed(file);
  const GgufTensor* plain = gguf.Find("plain");
  ASSERT_NE(plain, nullptr);
  EXPECT_THAT(plain->shape, ElementsAre(2, 3));
  float row[3];
  DequantizeRows(*plain, 1, 2, absl::MakeSpan(row));
  EXPECT_THAT(row, ElementsAre(4, 5, 6));
  EXPECT_EQ(gguf.Find("absent"), nullptr);
}

TEST(GgufTest, Version2IsReadToo) {
  GgufBuilder builder = Sample();
  builder.version = 2;
  const std::string file = builder.Build();
  EXPECT_EQ(Dequantized(Parsed(file), "plain").size(), 6);
}

TEST(GgufQuantTest, HalvesAndBrainFloatsKeepTheirValue) {
  GgufBuilder builder;
  builder.AddTensor({"f16", {2}, 1, Bytes(kHalfOne) + Bytes(kHalfMinusHalf), {}});
  builder.AddTensor({"bf16", {2}, 30, Bytes<uint16_t>(0x4049) + Bytes<uint16_t>(0xbf80), {}});
  const std::string file = builder.Build();
  const Gguf gguf = Parsed(file);
  EXPECT_THAT(Dequantized(gguf, "f16"), ElementsAre(1.0f, -0.5f));
  EXPECT_THAT(Dequantized(gguf, "bf16"), ElementsAre(3.140625f, -1.0f));
}

// 16 bytes whose low nibbles are 0, 1, .. 15 and whose high nibbles are 15, 14, .. 0.
std::string Nibbles() {
  std::string bytes;
  for (int i = 0; i < 16; ++i) bytes += static_cast<char>(i | ((15 - i) << 4));
  return bytes;
}

TEST(GgufQuantTest, Q4_0IsScaleTimesNibbleMinus8) {
  GgufBuilder builder;
  builder.AddTensor(
      {"t", {64}, 2, Bytes(kHalfTwo) + Nibbles() + Bytes(kHalfMinusHalf) + Nibbles(), {}});
  const std::string file = builder.Build();
  const std::vector<float> values = Dequantized(Parsed(file), "t");
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(values[i], 2.0f * (i - 8));
    EXPECT_EQ(values[16 + i], 2.0f * (7 - i));
    EXPECT_EQ(values[32 + i], -0.5f * (i - 8));
    EXPECT_EQ(values[48 + i], -0.5f * (7 - i));
  }
}

TEST(GgufQuantTest, Q4_1IsScaleTimesNibblePlusMinimum) {
  GgufBuilder builder;
  builder.AddTensor({"t",
                     {32, 2},
                     3,
                     Bytes(kHalfTwo) + Bytes(kHalfMinusHalf) + Nibbles() + Bytes(kHalfOne) +
                         Bytes(kHalfTwo) + Nibbles(),
                     {}});
  const std::string file = builder.Build();
  const Gguf gguf = Parsed(file);
  const std::vector<float> values = Dequantized(gguf, "t");
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(values[i], 2.0f * i - 0.5f);
    EXPECT_EQ(values[16 + i], 2.0f * (15 - i) - 0.5f);
    EXPECT_EQ(values[32 + i], i + 2.0f);
  }
  std::vector<float> second(32);
  DequantizeRows(*gguf.Find("t"), 1, 2, absl::MakeSpan(second));
  EXPECT_EQ(second, std::vector<float>(values.begin() + 32, values.end()));
}

TEST(GgufQuantTest, Q8_0IsScaleTimesSignedByte) {
  const std::string file = Sample().Build();
  const std::vector<float> values = Dequantized(Parsed(file), "q8");
  for (int i = 0; i < 32; ++i) EXPECT_EQ(values[i], 2.0f * (i - 16));
}

TEST(GgufQuantTest, TypesAreNamedAlsoIfTheyAreRefused) {
  EXPECT_EQ(GgufTensorTypeName(3), "Q4_1");
  EXPECT_EQ(GgufTensorTypeName(14), "Q6_K");
  EXPECT_EQ(GgufTensorTypeName(77), "type 77");
  EXPECT_EQ(SupportedGgufTensorTypes(), "F32, F16, Q4_0, Q4_1, Q8_0, BF16");
}

TEST(GgufLiesTest, TheUnchangedSampleIsAccepted) { EXPECT_EQ(ErrorOf(Sample().Build()), ""); }

TEST(GgufLiesTest, ATruncatedFileIsRefusedAtEveryByte) {
  const std::string file = Sample().Build();
  for (size_t size = 0; size < file.size(); ++size) {
    // A buffer of exactly this size, so that a sanitizer sees a read beyond it.
    const std::vector<char> cut(file.begin(), file.begin() + size);
    EXPECT_TRUE(
        absl::IsInvalidArgument(ParseGguf(absl::string_view(cut.data(), cut.size()), "x").status()))
        << size;
  }
}

TEST(GgufLiesTest, EveryChangedByteOfTheHeaderIsAnErrorOrStaysInsideTheFile) {
  const std::string good = Sample().Build();
  const size_t header_bytes = Sample().Header().size();
  for (size_t i = 0; i < header_bytes; ++i) {
    for (const int flip : {0x01, 0x02, 0x10, 0x80, 0xff}) {
      std::string file = good;
      file[i] = static_cast<char>(file[i] ^ flip);
      const auto result = ParseGguf(file, "x");
      if (!result.ok()) continue;
      for (const GgufTensor& tensor : result->tensors()) {
        ASSERT_GE(tensor.bytes.data(), file.data());
        ASSERT_LE(tensor.bytes.data() + tensor.bytes.size(), file.data() + file.size());
        Dequantized(*result, tensor.name);
      }
    }
  }
}

TEST(GgufLiesTest, MagicAndVersionAreChecked) {
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) { b.magic = 0x46464646; }),
              HasSubstr("x: begins with \"FFFF\", want \"GGUF\""));
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) { b.version = 1; }),
              HasSubstr("version is 1, want 2 or 3"));
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) { b.version = 3u << 24; }),
              HasSubstr("(a big-endian file?)"));
}

TEST(GgufLiesTest, CountsAreComparedWithWhatIsLeft) {
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) { b.tensor_count = uint64_t{1} << 60; }),
              HasSubstr("number of tensors is 1152921504606846976, want at most"));
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) { b.metadata_count = ~uint64_t{0}; }),
              HasSubstr("number of metadata is 18446744073709551615, want at most"));
  // One more of either reads what follows as something it is not.
  EXPECT_NE(ErrorAfter([](GgufBuilder& b) { b.tensor_count = 3; }), "");
  EXPECT_NE(ErrorAfter([](GgufBuilder& b) { b.metadata_count = 9; }), "");
}

TEST(GgufLiesTest, LengthsOfStringsAndArraysAreComparedWithWhatIsLeft) {
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) { b.AddRaw("s", 8, Bytes(~uint64_t{0})); }),
              HasSubstr("s needs 18446744073709551615 bytes"));
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) {
                b.AddRaw("a", 9, Bytes<uint32_t>(12) + Bytes(uint64_t{1} << 61));
              }),
              HasSubstr("count of \"a\" is 2305843009213693952, want at most"));
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) {
                b.AddRaw("a", 9, Bytes<uint32_t>(8) + Bytes(uint64_t{1} << 61));
              }),
              HasSubstr("count of \"a\""));
}

TEST(GgufLiesTest, ValueTypesAreKnownAndArraysAreFlat) {
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) { b.AddRaw("t", 13, ""); }),
              HasSubstr("metadata \"t\" has type 13, want a number, bool, string or an array"));
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) {
                b.AddRaw("t", 9,
                         Bytes<uint32_t>(9) + Bytes<uint64_t>(1) + Bytes<uint32_t>(0) +
                             Bytes<uint64_t>(1) + "x");
              }),
              HasSubstr("has elements of array"));
}

TEST(GgufLiesTest, KeysAndTensorsOccurOnce) {
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) { b.AddBool("name", true); }),
              HasSubstr("metadata key \"name\" occurs twice"));
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) { b.AddFloatTensor("plain", {1}, {1}); }),
              HasSubstr("tensor \"plain\" occurs twice"));
}

TEST(GgufLiesTest, AlignmentIsAPowerOfTwo) {
  for (const uint32_t alignment : {0u, 3u, 1u << 21}) {
    EXPECT_THAT(ErrorAfter([&](GgufBuilder& b) {
                  b.Remove("general.alignment");
                  b.AddUint32("general.alignment", alignment);
                }),
                HasSubstr(absl::StrCat("general.alignment is ", alignment)));
  }
  EXPECT_EQ(ErrorAfter([](GgufBuilder& b) {
              b.alignment = 64;
              b.Remove("general.alignment");
              b.AddUint32("general.alignment", 64);
            }),
            "");
}

TEST(GgufLiesTest, ShapesHaveOneToFourDimensionsAndDoNotOverflow) {
  const auto with_dimensions = [](std::vector<uint64_t> dimensions) {
    return ErrorAfter([&](GgufBuilder& b) { b.tensors()[0].dimensions = dimensions; });
  };
  EXPECT_THAT(with_dimensions({}), HasSubstr("tensor \"plain\" has 0 dimensions, want 1..4"));
  EXPECT_THAT(with_dimensions({1, 1, 1, 1, 1}), HasSubstr("has 5 dimensions"));
  EXPECT_THAT(with_dimensions({3, 0}), HasSubstr("dimension 1 is 0, want 1..2^63-1"));
  EXPECT_THAT(with_dimensions({3, ~uint64_t{0}}), HasSubstr("dimension 1 is 18446744073709551615"));
  EXPECT_THAT(with_dimensions({uint64_t{1} << 62, 4}), HasSubstr("overflows"));
  EXPECT_THAT(with_dimensions({3, 3000}), HasSubstr("takes 36000 bytes at offset 0"));
}

TEST(GgufLiesTest, TypesThatWeDoNotReadAreRefusedByName) {
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) { b.tensors()[1].type = 12; }),
              HasSubstr("tensor \"q8\" is Q4_K, want one of F32, F16, Q4_0, Q4_1, Q8_0, BF16"));
  EXPECT_THAT(ErrorAfter([](GgufBuilder& b) { b.tensors()[0].type = 8; }),
              HasSubstr("tensor \"plain\" has rows of 3, want a multiple of 32 for Q8_0"));
}

TEST(GgufLiesTest, OffsetsAreAlignedInsideTheFileAndDoNotOverlap) {
  const auto with_offset = [](uint64_t offset) {
    return ErrorAfter([&](GgufBuilder& b) { b.tensors()[1].offset = offset; });
  };
  EXPECT_EQ(with_offset(32), "");
  EXPECT_THAT(with_offset(33), HasSubstr("want an offset that is a multiple of 32"));
  EXPECT_THAT(with_offset(64), HasSubstr("inside the file's 66 bytes of data"));
  EXPECT_THAT(with_offset(~uint64_t{31}), HasSubstr("inside the file's"));
  EXPECT_THAT(with_offset(0), HasSubstr("want at least"));
}

TEST(GgufFileTest, AMissingFileIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(GgufFile::Open(::testing::TempDir() + "/missing.gguf").status()));
}

}  // namespace
}  // namespace deltaworks::trainer

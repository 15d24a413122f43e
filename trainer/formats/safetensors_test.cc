// A weight file is either exactly what its header says or refused. The first half writes and reads
// back; the second half lies in each field of the header in turn.

#include "trainer/formats/safetensors.h"

#include <cstring>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

using ::testing::HasSubstr;

std::string TempPath(const std::string& name) { return ::testing::TempDir() + "/" + name; }

std::string FileOf(absl::string_view header, absl::string_view data) {
  const uint64_t length = header.size();
  return absl::StrCat(absl::string_view(reinterpret_cast<const char*>(&length), sizeof(length)),
                      header, data);
}

// The message of the error that `header` over `data_bytes` zero bytes gives; "" if there is none.
std::string ErrorOf(absl::string_view header, int data_bytes) {
  const auto result = ParseSafetensors(FileOf(header, std::string(data_bytes, '\0')), "x");
  EXPECT_TRUE(result.ok() || absl::IsInvalidArgument(result.status())) << result.status();
  return std::string(result.status().message());
}

constexpr char kGood[] = R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                         R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[24,28]}})";

// ErrorOf kGood with `from` replaced by `to`.
std::string ErrorWith(absl::string_view from, absl::string_view to) {
  EXPECT_TRUE(absl::StrContains(kGood, from)) << from;
  return ErrorOf(absl::StrReplaceAll(kGood, {{from, to}}), 28);
}

TEST(SafetensorsTest, AFileByHandIsRead) {
  std::string data(28, '\0');
  const float value = 2.5f;
  std::memcpy(data.data() + 20, &value, sizeof(value));
  const std::string file = FileOf(absl::StrCat(kGood, "   "), data);
  const auto result = ParseSafetensors(file, "x");
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->tensors.size(), 2);
  const ConstTensorView* a = result->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->dtype, DType::kF32);
  EXPECT_EQ(a->shape, (std::vector<int64_t>{2, 3}));
  float last;
  std::memcpy(&last, static_cast<const char*>(a->data) + 20, sizeof(last));
  EXPECT_EQ(last, 2.5f);
  EXPECT_EQ(result->Find("c"), nullptr);
}

TEST(SafetensorsTest, EveryTypeScalarsAndEmptyTensorsComeBack) {
  const std::vector<uint64_t> values = {1, 2, 3, 4, 5, 6};
  TensorMap tensors;
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI32,
                            DType::kI64, DType::kU8}) {
    tensors[absl::StrCat("t.", NameOf(dtype))] = ConstTensorView(values.data(), dtype, {3, 1, 2});
  }
  tensors["scalar"] = ConstTensorView(values.data(), DType::kF64, {});
  tensors["empty"] = ConstTensorView(values.data(), DType::kF32, {0, 5});
  const std::string file = SerializeSafetensors(tensors, {{"format", "pt"}, {"a", "\"b\"\n"}});
  const auto result = ParseSafetensors(file, "x");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->metadata, (StringMap{{"a", "\"b\"\n"}, {"format", "pt"}}));
  ASSERT_EQ(result->tensors.size(), tensors.size());
  for (const auto& [name, want] : tensors) {
    const ConstTensorView& got = result->tensors.at(name);
    EXPECT_EQ(got.dtype, want.dtype) << name;
    EXPECT_EQ(got.shape, want.shape) << name;
    EXPECT_EQ(std::memcmp(got.data, want.data, want.bytes()), 0) << name;
  }
}

TEST(SafetensorsTest, DataIsAlignedWhateverTheNamesAndShapes) {
  const std::vector<uint64_t> values(8);
  const TensorMap tensors = {{"a", {values.data(), DType::kU8, {3}}},
                             {"b", {values.data(), DType::kBF16, {1}}},
                             {"c", {values.data(), DType::kF64, {1}}},
                             {"d", {values.data(), DType::kF32, {5}}}};
  const std::string file = SerializeSafetensors(tensors, {});
  uint64_t length;
  std::memcpy(&length, file.data(), sizeof(length));
  EXPECT_EQ((length + 8) % 64, 0);
  const auto result = ParseSafetensors(file, "x");
  ASSERT_TRUE(result.ok()) << result.status();
  const char* const data = file.data() + 8 + length;
  for (const auto& [name, view] : result->tensors) {
    EXPECT_EQ((static_cast<const char*>(view.data) - data) % SizeOf(view.dtype), 0) << name;
  }
}

TEST(SafetensorsTest, AMisalignedTensorIsNamed) {
  alignas(8) char file[256] = {};
  const std::string bytes =
      FileOf(R"({"u":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", std::string(4, '\0'));
  // 8 + 54 bytes: the data begins at 62.
  std::memcpy(file, bytes.data(), bytes.size());
  const auto result = ParseSafetensors({file, bytes.size()}, "x");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(std::string(result->CheckAligned("x").message()),
              HasSubstr("x: tensor u lies 2 bytes off, want a multiple of 4 for F32"));
}

TEST(SafetensorsTest, EqualTensorsGiveEqualBytesOnDiskAndInMemory) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const TensorMap tensors = {{"b", {values.data(), DType::kF32, {2, 3}}},
                             {"a", {values.data(), DType::kBF16, {5}}}};
  const StringMap metadata = {{"z", "1"}, {"format", "pt"}};
  const std::string path = TempPath("written");
  // Planned in another order, written in pieces.
  auto writer = SafetensorsWriter::Create(
      path, {{"a", DType::kBF16, {5}}, {"b", DType::kF32, {2, 3}}}, metadata);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const TensorPlan& tensor : (*writer)->order()) {
    const auto* data = static_cast<const char*>(tensors.at(tensor.name).data);
    for (int64_t i = 0; i < tensor.bytes(); i += 2) {
      ASSERT_TRUE((*writer)->Append({data + i, 2}).ok());
    }
  }
  EXPECT_FALSE(std::filesystem::exists(path)) << "the file is there before it is complete";
  ASSERT_TRUE((*writer)->Finish().ok());

  EXPECT_EQ(*ReadFile(path), SerializeSafetensors(tensors, metadata));
  auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->contents().CheckAligned(path).ok());
  EXPECT_EQ((*file)->metadata(), metadata);
  EXPECT_EQ((*file)->tensors().at("b").as<const float>()[5], 6.0f);
}

TEST(SafetensorsDeathTest, AWriterIsHeldToItsPlan) {
  const auto create = [](std::vector<TensorPlan> plan) {
    return SafetensorsWriter::Create(TempPath("plan"), std::move(plan), {});
  };
  EXPECT_DEATH((void)create({{"a", DType::kF32, {1}}, {"a", DType::kF32, {1}}}), "two tensors");
  auto writer = create({{"a", DType::kF32, {1}}});
  ASSERT_TRUE(writer.ok());
  EXPECT_DEATH((void)(*writer)->Append("12345"), "more data than planned");
  EXPECT_DEATH((void)(*writer)->Finish(), "less data than planned");
}

TEST(SafetensorsLiesTest, TheUnchangedHeaderIsAccepted) { EXPECT_EQ(ErrorOf(kGood, 28), ""); }

TEST(SafetensorsLiesTest, TheLengthOfTheHeaderIsCheckedAgainstTheFile) {
  EXPECT_THAT(std::string(ParseSafetensors("1234567", "x").status().message()),
              HasSubstr("x: byte 0: the header's length needs 8 bytes, 7 are left"));
  std::string file = FileOf("{}", "");
  EXPECT_TRUE(ParseSafetensors(file, "x").ok());
  for (const uint64_t length : {uint64_t{3}, uint64_t{1} << 40, ~uint64_t{0}}) {
    std::memcpy(file.data(), &length, sizeof(length));
    const auto result = ParseSafetensors(file, "x");
    EXPECT_THAT(std::string(result.status().message()),
                HasSubstr(absl::StrCat("length is ", length, ", want at most 2")));
  }
}

TEST(SafetensorsLiesTest, ATruncatedFileIsRefusedAtEveryByte) {
  const std::string file = FileOf(kGood, std::string(28, '\0'));
  for (size_t size = 0; size < file.size(); ++size) {
    // A buffer of exactly this size, so that a sanitizer sees a read beyond it.
    const std::vector<char> cut(file.begin(), file.begin() + size);
    EXPECT_TRUE(absl::IsInvalidArgument(
        ParseSafetensors(absl::string_view(cut.data(), cut.size()), "x").status()))
        << size;
  }
}

TEST(SafetensorsLiesTest, EveryChangedByteOfTheHeaderIsAnErrorOrAnotherValidHeader) {
  const std::string good = FileOf(kGood, std::string(28, '\0'));
  for (size_t i = 0; i + 28 < good.size(); ++i) {
    for (const int flip : {0x01, 0x04, 0x20, 0x80}) {
      std::string file = good;
      file[i] = static_cast<char>(file[i] ^ flip);
      const auto result = ParseSafetensors(file, "x");
      if (!result.ok()) continue;
      for (const auto& [name, view] : result->tensors) {
        const char* const begin = static_cast<const char*>(view.data);
        ASSERT_GE(begin, file.data() + 8) << name;
        ASSERT_LE(begin + view.bytes(), file.data() + file.size()) << name;
      }
    }
  }
}

TEST(SafetensorsLiesTest, AHeaderThatIsNoObjectIsRefused) {
  EXPECT_THAT(ErrorOf("[1]", 0), HasSubstr("x: header is a JSON array, want an object"));
  EXPECT_THAT(ErrorOf("{", 0), HasSubstr("x: header: not JSON"));
  EXPECT_THAT(ErrorOf(R"({"a":3})", 0), HasSubstr("tensor a is a JSON number, want an object"));
}

TEST(SafetensorsLiesTest, ANameOrFieldThatOccursTwiceIsRefused) {
  EXPECT_THAT(ErrorWith("\"b\":", "\"a\":"), HasSubstr("x: header has \"a\" twice"));
  EXPECT_THAT(ErrorWith("[2,3],", "[2,3],\"shape\":[2,3],"), HasSubstr("has \"shape\" twice"));
}

TEST(SafetensorsLiesTest, TheTypeIsOneThatIsKnown) {
  EXPECT_THAT(ErrorWith("BF16", "F8_E4M3"),
              HasSubstr("tensor b: dtype is \"F8_E4M3\", want one of F64, F32"));
  EXPECT_THAT(ErrorWith("\"BF16\"", "7"), HasSubstr("tensor b: dtype is 7, want a string"));
  EXPECT_THAT(ErrorWith("\"dtype\":\"BF16\",", ""), HasSubstr("dtype is absent"));
}

TEST(SafetensorsLiesTest, TheShapeIsAListOfSizesThatDoesNotOverflow) {
  EXPECT_THAT(ErrorWith("[2,3]", "[2,-3]"), HasSubstr("tensor a: shape is one with -3"));
  EXPECT_THAT(ErrorWith("[2,3]", "[2,3.0]"), HasSubstr("shape is one with 3.0"));
  EXPECT_THAT(ErrorWith("[2,3]", "6"), HasSubstr("shape is a JSON number"));
  EXPECT_THAT(ErrorWith("[2,3]", "[18446744073709551615]"), HasSubstr("shape is one with 184"));
  EXPECT_THAT(ErrorWith("[2,3]", "[4294967296,4294967296]"), HasSubstr("overflows"));
  EXPECT_THAT(ErrorWith("[2,3]", "[9223372036854775807,2,0]"), HasSubstr("overflows"));
  EXPECT_THAT(ErrorWith("[2,3]", "[2,4]"), HasSubstr("hold 24 bytes, want 32 for F32 [2, 4]"));
}

TEST(SafetensorsLiesTest, OffsetsLieInsideTheDataAndHoldTheTensor) {
  EXPECT_THAT(ErrorWith("[0,24]", "[0,25]"), HasSubstr("hold 25 bytes, want 24"));
  EXPECT_THAT(ErrorWith("[0,24]", "[24,0]"), HasSubstr("data_offsets are [24, 0]"));
  EXPECT_THAT(ErrorWith("[24,28]", "[25,29]"),
              HasSubstr("want [begin, end] inside the file's 28 bytes of data"));
  EXPECT_THAT(ErrorWith("[0,24]", "[0]"), HasSubstr("data_offsets are [0]"));
  EXPECT_THAT(ErrorWith("[0,24]", "[-4,20]"), HasSubstr("data_offsets is one with -4"));
}

TEST(SafetensorsLiesTest, DataHasNoOverlapNoHoleAndNoTail) {
  EXPECT_THAT(ErrorWith("[24,28]", "[20,24]"),
              HasSubstr("tensor b begins at byte 20 of the data, want 24 (it overlaps another)"));
  EXPECT_THAT(ErrorOf(absl::StrReplaceAll(kGood, {{"[24,28]", "[26,30]"}}), 30),
              HasSubstr("tensor b begins at byte 26 of the data, want 24 (there is a hole)"));
  EXPECT_THAT(ErrorOf(kGood, 29), HasSubstr("the file has 29 bytes of data, want 28"));
}

TEST(SafetensorsLiesTest, MetadataIsAnObjectOfStrings) {
  EXPECT_THAT(ErrorOf(R"({"__metadata__":[]})", 0), HasSubstr("want an object of strings"));
  EXPECT_THAT(ErrorOf(R"({"__metadata__":{"k":1}})", 0),
              HasSubstr("__metadata__.k is a JSON number, want a string"));
}

}  // namespace
}  // namespace deltaworks::trainer

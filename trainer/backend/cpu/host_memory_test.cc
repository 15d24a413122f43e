#include "trainer/backend/cpu/host_memory.h"

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace deltaworks::trainer {
namespace {

TEST(HostMemoryTest, BlocksAreAlignedAndZero) {
  for (const int64_t bytes : {0, 1, 63, 4096, (2 << 20) - 1, 2 << 20, (5 << 20) + 7}) {
    const auto memory = HostMemory::Allocate(bytes);
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_EQ((*memory)->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*memory)->data()) % 64, 0);
    const char* data = static_cast<const char*>((*memory)->data());
    EXPECT_TRUE(std::all_of(data, data + bytes, [](char c) { return c == 0; })) << bytes;
  }
}

TEST(HostMemoryTest, WhatTheSystemHasNotIsResourceExhausted) {
  for (const int64_t bytes : {int64_t{1} << 46, int64_t{1} << 50, INT64_MAX}) {
    const auto memory = HostMemory::Allocate(bytes);
    EXPECT_TRUE(absl::IsResourceExhausted(memory.status())) << bytes;
  }
}

TEST(WorkspaceTest, BlocksKeepTheirPlaceAndDoNotOverlap) {
  Workspace workspace;
  for (int round = 0; round < 3; ++round) {
    char* first = workspace.Get<char>(100);
    std::fill_n(first, 100, 'a');
    char* large = workspace.Get<char>(3 << 20);
    std::fill_n(large, 3 << 20, 'b');
    float* last = workspace.Get<float>(7);
    std::fill_n(last, 7, 1.0f);
    EXPECT_TRUE(std::all_of(first, first + 100, [](char c) { return c == 'a'; }));
    EXPECT_TRUE(std::all_of(large, large + (3 << 20), [](char c) { return c == 'b'; }));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(last) % 64, 0);
    workspace.Reset();
  }
}

TEST(WorkspaceTest, TheSameUseTakesTheSamePlaceAgain) {
  Workspace workspace;
  workspace.Get<char>(1000);
  workspace.Get<char>(8 << 20);
  workspace.Reset();
  const char* first = workspace.Get<char>(1000);
  const char* second = workspace.Get<char>(8 << 20);
  workspace.Reset();
  EXPECT_EQ(workspace.Get<char>(1000), first);
  EXPECT_EQ(workspace.Get<char>(8 << 20), second);
}

TEST(WorkspaceTest, ARewoundLoopFindsItsPlaceAgainAndWhatWasGivenBeforeStays) {
  Workspace workspace;
  for (int use = 0; use < 2; ++use) {
    workspace.Reset();
    char* const kept = workspace.Get<char>(100);
    std::fill_n(kept, 100, 'k');
    const Workspace::Place mark = workspace.Mark();
    char* const first = workspace.Get<char>(8 << 20);
    for (int i = 0; i < 3; ++i) {
      workspace.Rewind(mark);
      char* const again = workspace.Get<char>(8 << 20);
      // At its first use the workspace had to grow behind the mark: nothing is given back.
      EXPECT_EQ(again == first, use == 1) << "use " << use << " turn " << i;
      std::fill_n(again, 8 << 20, 'x');
    }
    EXPECT_TRUE(std::all_of(kept, kept + 100, [](char c) { return c == 'k'; }));
  }
}

TEST(WorkspaceTest, ReservedMemoryIsOneBlockThatIsKeptUntilZeroIsReserved) {
  Workspace workspace;
  ASSERT_TRUE(workspace.Reserve(5'000'000).ok());
  const int64_t reserved = workspace.bytes();
  EXPECT_GE(reserved, 5'000'000);
  EXPECT_LT(reserved, 5'000'064);
  char* const first = workspace.Get<char>(4'000'000);
  workspace.Get<char>(1'000'000);
  EXPECT_EQ(workspace.bytes(), reserved) << "room for all of it";
  ASSERT_TRUE(workspace.Reserve(1'000).ok());
  EXPECT_EQ(workspace.bytes(), reserved);
  EXPECT_EQ(workspace.Get<char>(4'000'000), first);
  ASSERT_TRUE(workspace.Reserve(0).ok());
  EXPECT_EQ(workspace.bytes(), 0);
}

TEST(WorkspaceTest, WhatGrewBeyondTheReservedIsJoinedByTheNextReservation) {
  Workspace workspace;
  ASSERT_TRUE(workspace.Reserve(3'000'000).ok());
  workspace.Get<char>(3'000'000);
  workspace.Get<char>(2'000'000);
  const int64_t grown = workspace.bytes();
  EXPECT_GE(grown, 5'000'000);
  ASSERT_TRUE(workspace.Reserve(3'000'000).ok());
  EXPECT_EQ(workspace.bytes(), grown);
  workspace.Get<char>(grown);
  EXPECT_EQ(workspace.bytes(), grown) << "in one block";
}

TEST(WorkspaceTest, AReservationThatTheSystemRefusesHoldsNothingAndCanBeTriedAgain) {
  Workspace workspace;
  ASSERT_TRUE(workspace.Reserve(1'000).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(workspace.Reserve(int64_t{1} << 50)));
  EXPECT_EQ(workspace.bytes(), 0);
  EXPECT_TRUE(workspace.Reserve(1'000).ok());
}

}  // namespace
}  // namespace deltaworks::trainer

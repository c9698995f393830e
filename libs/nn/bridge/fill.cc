// Joins `fill.h` to tensors: a dynamic layer's output in inference. `src/dynamic/mix.rs` and the batch norm compute the same by
// separate tensor operations and are the oracle of the tests.

#include "fill.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <limits>

#include "options.h"

namespace vared {
namespace {

constexpr at::MemoryFormat kLast = at::MemoryFormat::ChannelsLast3d;

// Pieces of a picture: enough for all threads when there are few clips and frames, and a piece is never less than a row.
int64_t pieces(int64_t tasks, int64_t rows) {
  const int64_t wanted = (2 * at::get_num_threads() + tasks - 1) / tasks;
  return at::get_num_threads() == 1 ? 1 : std::min(rows, wanted);
}

// A norm as one scale and one shift a channel.
void multiply_out(const VaredNorm& norm, std::vector<float>& scale, std::vector<float>& shift) {
  for (const at::Tensor* values : {norm.weight, norm.bias, norm.mean, norm.variance}) {
    require(values->is_contiguous() && values->numel() == static_cast<int64_t>(scale.size()), "norm: one value a channel");
  }
  const float *weight = norm.weight->data_ptr<float>(), *bias = norm.bias->data_ptr<float>();
  const float *mean = norm.mean->data_ptr<float>(), *variance = norm.variance->data_ptr<float>();
  for (size_t c = 0; c < scale.size(); ++c) {
    scale[c] = weight[c] / std::sqrt(variance[c] + static_cast<float>(norm.eps));
    shift[c] = bias[c] - mean[c] * scale[c];
  }
}

at::Tensor fill(const Call& call, const Affine& norm, const at::Tensor* shortcut, const VaredRows& rows) {
  const Layer l = layout(call, kLast);
  require(0 <= rows.from && rows.from < rows.to && rows.to <= l.plane.h, "rows of the output");
  const int64_t height = rows.to - rows.from;
  const at::Tensor v_time = call.v_time.contiguous(), v_channel = call.v_channel.contiguous();
  at::Tensor y = at::empty({l.clips, l.channels, l.frames, height, l.plane.w}, call.f.options(), kLast);
  at::Tensor other;
  if (shortcut != nullptr) {
    require(shortcut->sizes() == y.sizes() && shortcut->scalar_type() == at::kFloat, "a shortcut of the output's shape");
    other = channels_last(*shortcut);
  }
  std::vector<Coefficients> of_clip;
  for (int64_t clip = 0; clip < l.clips; ++clip) {
    const Weights v{v_channel.data_ptr<float>() + clip * l.channel_options, v_time.data_ptr<float>() + clip * l.time_options};
    of_clip.push_back(coefficients(l, v, norm));
  }
  const int64_t length = period(l), periods = (l.frames + length - 1) / length;
  const int64_t bands = pieces(l.clips * periods, height);
  const float* f = call.f.data_ptr<float>();
  const float* add = other.defined() ? other.data_ptr<float>() : nullptr;
  float* to = y.data_ptr<float>();
  at::parallel_for(0, l.clips * periods * bands, 1, [&](int64_t from, int64_t until) {
    Scratch scratch(l);
    for (int64_t at = from; at < until; ++at) {
      const int64_t clip = at / (periods * bands), first = at / bands % periods * length, band = at % bands;
      const int64_t out = clip * y.stride(0);
      const Features features{f + clip * l.in_size(), add == nullptr ? nullptr : add + out, to + out, rows.from, height};
      fill_rows(l, of_clip[clip], norm, features, first, std::min(first + length, l.frames), rows.from + band * height / bands,
                rows.from + (band + 1) * height / bands, scratch);
    }
  });
  return y;
}

}  // namespace
}  // namespace vared

at::Tensor* vared_fill(const VaredMix* mix, const VaredNorm* norm, at::Tensor* shortcut, int relu, VaredRows rows) {
  return vared::caught([&] {
    const at::NoGradGuard guard;
    std::vector<float> scale(mix->channels, 1.f), shift(mix->channels, 0.f);
    if (norm != nullptr) vared::multiply_out(*norm, scale, shift);
    const float floor = relu ? 0.f : -std::numeric_limits<float>::infinity();
    vared::Call call = vared::gather(*mix);
    call.f = vared::channels_last(call.f);
    return vared::fill(call, {scale.data(), shift.data(), floor}, shortcut, rows);
  });
}

// Joins the kernels to libtorch: tensors in and out, gradients, memory, the current stream.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "abi.h"
#include "kernels.h"

namespace vared {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

thread_local std::string last_error;

template <typename F>
at::Tensor* caught(F compute) {
  try {
    return new at::Tensor(compute());
  } catch (const c10::Error& error) {
    last_error = error.what_without_backtrace();
  } catch (const std::exception& error) {
    last_error = error.what();
  }
  return nullptr;
}

void require(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what);
}

int64_t filled(int64_t channels) { return (channels + 7) / 8 * 8; }

Element element_of(const at::Tensor& x) {
  require(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, "features are floats or bfloat16");
  return x.scalar_type() == at::kFloat ? Element::kFloat : Element::kBfloat16;
}

// Channels last with the strides that this has, whatever sizes of 1 would leave open.
at::Tensor features(const at::Tensor& x) {
  require(x.is_cuda() && x.dim() == 5 && x.size(1) % 8 == 0, "features are [n, c, t, h, w] on a GPU, c a multiple of 8");
  const at::Tensor last = x.contiguous(at::MemoryFormat::ChannelsLast3d);
  const int64_t c = last.size(1), t = last.size(2), h = last.size(3), w = last.size(4);
  const std::vector<int64_t> strides{t * h * w * c, 1, h * w * c, w * c, c};
  return last.strides() == at::IntArrayRef(strides) ? last : last.as_strided(last.sizes(), strides);
}

at::Tensor like(const at::Tensor& x, int64_t n, int64_t c, int64_t t, int64_t h, int64_t w) {
  return at::empty({n, t, h, w, c}, x.options()).permute({0, 4, 1, 2, 3});
}

at::Tensor like(const at::Tensor& x) { return like(x, x.size(0), x.size(1), x.size(2), x.size(3), x.size(4)); }

Rows rows_of(const at::Tensor& x) { return {element_of(x), x.numel() / x.size(1), x.size(1)}; }

at::Tensor floats(const at::Tensor& x, at::IntArrayRef size) { return at::empty(size, x.options().dtype(at::kFloat)); }

float* data(const at::Tensor& x) { return x.data_ptr<float>(); }

const at::Tensor& parameter(const at::Tensor& p) {
  require(p.is_cuda() && p.scalar_type() == at::kFloat && p.is_contiguous(), "parameters are contiguous floats on the GPU");
  return p;
}

cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

void launched() { C10_CUDA_CHECK(cudaGetLastError()); }

// ---- norm, shortcut, activation

struct Statistics {
  at::Tensor affine;
  at::Tensor partial;
  NormSums sums;
};

NormSums sums_of(const Rows& rows, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  require(weight.numel() <= rows.channels && rows.channels - weight.numel() < 8, "a norm of other channels than its features");
  return {nullptr, 0, rows.rows, weight.numel(), data(parameter(weight)), data(parameter(bias)), eps};
}

struct NormAct : torch::autograd::Function<NormAct> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_any, const at::Tensor& weight, const at::Tensor& bias,
                            const std::optional<at::Tensor>& shortcut_any, const at::Tensor& mean, const at::Tensor& variance, double eps,
                            int64_t activation) {
    const at::Tensor x = features(x_any);
    const c10::cuda::CUDAGuard guard(x.device());
    const bool joined = shortcut_any.has_value();
    const at::Tensor shortcut = joined ? features(*shortcut_any) : at::Tensor();
    const Rows rows = rows_of(x);
    require(rows.rows > 1, "batch norm in training needs more than one value a channel");
    const at::Tensor affine = floats(x, {4, rows.channels}), y = like(x);
    const at::Tensor partial = floats(x, {norm_parts(rows), 2, rows.channels});
    NormSums sums = sums_of(rows, weight, bias, eps);
    sums.partial = data(partial);
    sums.parts = partial.size(0);
    norm_sums(rows, x.data_ptr(), data(partial), stream());
    norm_finish(rows, x.data_ptr(), sums, data(parameter(mean)), data(parameter(variance)), data(affine), stream());
    norm_apply(rows, x.data_ptr(), joined ? shortcut.data_ptr() : nullptr, data(affine), static_cast<Activation>(activation),
               y.data_ptr(), stream());
    launched();
    ctx->saved_data["activation"] = activation;
    ctx->saved_data["joined"] = joined;
    ctx->saved_data["channels"] = weight.numel();
    variable_list saved{x, affine};
    if (joined) saved.push_back(y);
    ctx->save_for_backward(saved);
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &affine = saved[1];
    const c10::cuda::CUDAGuard guard(x.device());
    const at::Tensor dy = features(gradients[0]);
    const bool joined = ctx->saved_data["joined"].toBool();
    const int64_t channels = ctx->saved_data["channels"].toInt();
    const Rows rows = rows_of(x);
    const at::Tensor dx = like(x), dz = joined ? like(x) : at::Tensor();
    const at::Tensor partial = floats(x, {norm_parts(rows), 2, rows.channels}), means = floats(x, {2, rows.channels});
    const at::Tensor dgamma = floats(x, {channels}), dbeta = floats(x, {channels});
    const NormBackward b{x.data_ptr(),
                         joined ? saved[2].data_ptr() : nullptr,
                         dy.data_ptr(),
                         joined ? dz.data_ptr() : nullptr,
                         data(affine),
                         static_cast<Activation>(ctx->saved_data["activation"].toInt())};
    NormSums sums{};
    sums.partial = data(partial);
    sums.parts = partial.size(0);
    sums.count = rows.rows;
    sums.known = channels;
    norm_backward_sums(rows, b, data(partial), stream());
    norm_backward_finish(rows, sums, data(dgamma), data(dbeta), data(means), stream());
    norm_backward_apply(rows, b, data(means), dx.data_ptr(), stream());
    launched();
    return {dx, dgamma, dbeta, dz, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

at::Tensor scale_of(const at::Tensor& x, const VaredCudaNorm& norm) {
  const c10::cuda::CUDAGuard guard(x.device());
  const Rows rows = rows_of(x);
  const at::Tensor affine = floats(x, {4, rows.channels});
  norm_running(rows, sums_of(rows, *norm.weight, *norm.bias, norm.eps), data(parameter(*norm.mean)),
               data(parameter(*norm.variance)), data(affine), stream());
  launched();
  return affine;
}

at::Tensor affine_of(const at::Tensor& x_any, const at::Tensor& affine, const at::Tensor* shortcut, int activation) {
  const at::Tensor x = features(x_any), z = shortcut ? features(*shortcut) : at::Tensor(), y = like(x);
  const c10::cuda::CUDAGuard guard(x.device());
  norm_apply(rows_of(x), x.data_ptr(), shortcut ? z.data_ptr() : nullptr, data(affine), static_cast<Activation>(activation),
             y.data_ptr(), stream());
  launched();
  return y;
}

// ---- convolutions

// Filled up on both sides, in the features' kind and layout. A weight that is packed already stays as it is.
at::Tensor pack(const at::Tensor& weight, const at::Tensor& x) {
  const int64_t outputs = filled(weight.size(0)) - weight.size(0), inputs = x.size(1) - weight.size(1);
  require(inputs >= 0 && inputs < 8, "a convolution of other channels than its features");
  const bool fits = outputs == 0 && inputs == 0;
  const at::Tensor whole = fits ? weight : at::constant_pad_nd(weight, {0, 0, 0, 0, 0, 0, 0, inputs, 0, outputs});
  return whole.to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast3d);
}

// Without a kernel over time every frame is a picture, for which libraries have the faster kernels.
at::Tensor convolve(const at::Tensor& x_any, const at::Tensor& weight, const VaredCudaConv& conv) {
  const at::Tensor x = features(x_any), w = pack(weight, x);
  const auto &s = conv.stride, &p = conv.padding;
  if (w.size(2) > 1 || s[0] > 1 || p[0] > 0) {
    return at::conv3d(x, w, {}, at::IntArrayRef(s, 3), at::IntArrayRef(p, 3));
  }
  const int64_t n = x.size(0), t = x.size(2);
  const at::Tensor pictures = x.permute({0, 2, 3, 4, 1}).flatten(0, 1).permute({0, 3, 1, 2});
  const at::Tensor y = at::conv2d(pictures, w.squeeze(2), {}, at::IntArrayRef(s + 1, 2), at::IntArrayRef(p + 1, 2));
  return y.permute({0, 2, 3, 1}).unflatten(0, {n, t}).permute({0, 4, 1, 2, 3});
}

Depthwise shape_of(const at::Tensor& x, const at::Tensor& taps, int64_t stride_frames, int64_t stride) {
  Depthwise d{};
  d.element = element_of(x);
  d.clips = x.size(0);
  d.channels = taps.size(1);
  d.row = x.size(1);
  d.frames = x.size(2);
  d.height = x.size(3);
  d.width = x.size(4);
  d.kernel_frames = static_cast<int>(taps.size(0) / 9);
  d.stride_frames = static_cast<int>(stride_frames);
  d.stride = static_cast<int>(stride);
  d.out_frames = (d.frames - 1) / stride_frames + 1;
  d.out_height = (d.height - 1) / stride + 1;
  d.out_width = (d.width - 1) / stride + 1;
  require(d.channels <= d.row, "a depthwise convolution of more channels than its features");
  require(stride == 1 || stride == 2, "a depthwise convolution of stride 1 or 2");
  return d;
}

struct DepthwiseConv : torch::autograd::Function<DepthwiseConv> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_any, const at::Tensor& taps_any, int64_t stride_frames,
                            int64_t stride) {
    const at::Tensor x = features(x_any), taps = taps_any.contiguous();
    const c10::cuda::CUDAGuard guard(x.device());
    const Depthwise d = shape_of(x, taps, stride_frames, stride);
    const at::Tensor y = like(x, d.clips, d.channels, d.out_frames, d.out_height, d.out_width);
    depthwise_forward(d, x.data_ptr(), data(taps), y.data_ptr(), stream());
    launched();
    ctx->saved_data["stride_frames"] = stride_frames;
    ctx->saved_data["stride"] = stride;
    ctx->save_for_backward({x, taps});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &taps = saved[1];
    const c10::cuda::CUDAGuard guard(x.device());
    const at::Tensor dy = features(gradients[0]);
    const Depthwise d = shape_of(x, taps, ctx->saved_data["stride_frames"].toInt(), ctx->saved_data["stride"].toInt());
    at::Tensor dx, dtaps;
    if (ctx->needs_input_grad(0)) {
      dx = like(x, d.clips, d.channels, d.frames, d.height, d.width);
      depthwise_backward_input(d, dy.data_ptr(), data(taps), dx.data_ptr(), stream());
      if (d.channels < d.row) dx = at::constant_pad_nd(dx, {0, 0, 0, 0, 0, 0, 0, d.row - d.channels});
    }
    if (ctx->needs_input_grad(1)) {
      const at::Tensor partial = floats(x, {depthwise_parts(d), taps.size(0), taps.size(1)});
      depthwise_backward_weight(d, x.data_ptr(), dy.data_ptr(), data(partial), stream());
      dtaps = floats(x, taps.sizes());
      add_parts(data(partial), partial.size(0), dtaps.numel(), data(dtaps), stream());
    }
    launched();
    return {dx, dtaps, at::Tensor(), at::Tensor()};
  }
};

// `[c, 1, t, 3, 3]` as `[t · 9, c]`, filled up. What is so already stays as it is.
at::Tensor taps_of(const at::Tensor& weight) {
  if (weight.dim() == 2) return weight;
  const int64_t channels = weight.size(0), missing = filled(channels) - channels;
  const at::Tensor taps = weight.reshape({channels, -1}).t().to(at::kFloat);
  return missing == 0 ? taps.contiguous() : at::constant_pad_nd(taps, {0, missing});
}

// ---- pooling

MaxPool shape_of(const at::Tensor& x, at::IntArrayRef sizes) {
  MaxPool p{};
  p.element = element_of(x);
  p.clips = x.size(0);
  p.channels = x.size(1);
  for (int axis = 0; axis < 3; ++axis) {
    p.in[axis] = x.size(2 + axis);
    p.kernel[axis] = static_cast<int>(sizes[axis]);
    p.stride[axis] = static_cast<int>(sizes[3 + axis]);
    p.padding[axis] = static_cast<int>(sizes[6 + axis]);
    p.out[axis] = sizes[9 + axis];
  }
  require(sizes[0] * sizes[1] * sizes[2] <= 255, "a pooling window of 255 positions at most");
  return p;
}

struct MaxPooling : torch::autograd::Function<MaxPooling> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_any, at::IntArrayRef sizes) {
    const at::Tensor x = features(x_any);
    const c10::cuda::CUDAGuard guard(x.device());
    const MaxPool p = shape_of(x, sizes);
    const at::Tensor y = like(x, p.clips, p.channels, p.out[0], p.out[1], p.out[2]);
    const at::Tensor taps = at::empty({y.numel()}, x.options().dtype(at::kByte));
    max_pool(p, x.data_ptr(), y.data_ptr(), taps.data_ptr<uint8_t>(), stream());
    launched();
    ctx->saved_data["sizes"] = sizes.vec();
    ctx->saved_data["in"] = x.sizes().vec();
    ctx->save_for_backward({taps});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const at::Tensor dy = features(gradients[0]), taps = ctx->get_saved_variables()[0];
    const c10::cuda::CUDAGuard guard(dy.device());
    const auto in = ctx->saved_data["in"].toIntVector();
    const at::Tensor dx = like(dy, in[0], in[1], in[2], in[3], in[4]);
    const auto sizes = ctx->saved_data["sizes"].toIntVector();
    max_pool_backward(shape_of(dx, sizes), dy.data_ptr(), taps.data_ptr<uint8_t>(), dx.data_ptr(), stream());
    launched();
    return {dx, at::Tensor()};
  }
};

// ---- what a dynamic layer rebuilds

struct Means : torch::autograd::Function<Means> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x_any) {
    const at::Tensor x = features(x_any);
    const c10::cuda::CUDAGuard guard(x.device());
    const int64_t n = x.size(0), c = x.size(1), t = x.size(2);
    const at::Tensor out = floats(x, {n, t, c});
    means({element_of(x), x.size(3) * x.size(4), c}, n * t, x.data_ptr(), data(out), stream());
    launched();
    ctx->set_materialize_grads(true);
    return {x.view_as(x), out.permute({0, 2, 1})};
  }

  static variable_list backward(AutogradContext*, variable_list gradients) {
    const at::Tensor dy = features(gradients[0]), d_means = gradients[1].permute({0, 2, 1}).to(at::kFloat).contiguous();
    const c10::cuda::CUDAGuard guard(dy.device());
    const at::Tensor dx = like(dy);
    means_backward({element_of(dy), dy.size(3) * dy.size(4), dy.size(1)}, dy.size(0) * dy.size(2), dy.data_ptr(), data(d_means),
                   dx.data_ptr(), stream());
    launched();
    return {dx};
  }
};

// The options of one axis that are summed.
struct Live {
  int options = 0;
  int at[kOptions];
};

Live live_of(const uint8_t* live, int64_t options) {
  Live found;
  for (int64_t o = 0; o < options; ++o) {
    if (live && !live[o]) continue;
    require(found.options < kOptions, "more live options than the kernel takes");
    found.at[found.options++] = static_cast<int>(o);
  }
  require(found.options > 0, "no option is live");
  return found;
}

// A dynamic layer's options and what rebuilds for them, as tensors.
struct Options {
  at::Tensor v_time, v_channel;                  // `[n, options]` floats
  variable_list channel_kernels, time_kernels;   // of options 1, 2, …: `[9, missing]` and `[R − 1, 9, c]`
  std::vector<int64_t> kept, factors;
  int64_t channels, frames;
};

FillChannels channels_call(const at::Tensor& x, const Options& o, const Live& live, const at::Tensor& weights) {
  FillChannels f{};
  f.element = element_of(x);
  f.clips = x.size(0);
  f.positions_h = x.size(3);
  f.positions_w = x.size(4);
  f.frames = x.size(2);
  f.in_channels = x.size(1);
  f.out_channels = filled(o.channels);
  f.channels = o.channels;
  f.options = live.options;
  f.weights = data(weights);
  f.weight_columns = static_cast<int>(weights.size(1));
  for (int i = 0; i < live.options; ++i) {
    const int at = live.at[i];
    f.kept[i] = o.kept[at];
    f.multiplier[i] = (1 << at) - 1;
    f.kernels[i] = at == 0 ? nullptr : data(parameter(o.channel_kernels[at - 1]));
    f.weight_at[i] = at;
  }
  return f;
}

FillFrames frames_call(const at::Tensor& x, const Options& o, const Live& live) {
  FillFrames f{};
  f.element = element_of(x);
  f.clips = x.size(0);
  f.positions_h = x.size(3);
  f.positions_w = x.size(4);
  f.in_frames = x.size(2);
  f.frames = o.frames;
  f.row = x.size(1);
  f.channels = o.channels;
  f.step = static_cast<int>(o.factors[live.at[0]]);
  f.options = live.options;
  f.weights = data(o.v_time);
  f.weight_columns = static_cast<int>(o.v_time.size(1));
  for (int i = 0; i < live.options; ++i) {
    const int at = live.at[i];
    f.factor[i] = static_cast<int>(o.factors[at]);
    f.kernels[i] = at == 0 ? nullptr : data(parameter(o.time_kernels[at - 1]));
    f.weight_at[i] = at;
  }
  return f;
}

at::Tensor fill(const VaredCudaFill& call) {
  const at::Tensor x = features(*call.computed);
  const c10::cuda::CUDAGuard guard(x.device());
  Options o;
  o.v_channel = call.channel_weights->to(at::kFloat).contiguous();
  o.v_time = call.time_weights->to(at::kFloat).contiguous();
  for (int64_t i = 0; i + 1 < call.channel_options; ++i) o.channel_kernels.push_back(*call.channel_kernels[i]);
  for (int64_t i = 0; i + 1 < call.time_options; ++i) o.time_kernels.push_back(*call.time_kernels[i]);
  o.kept.assign(call.kept, call.kept + call.channel_options);
  o.factors.assign(call.factors, call.factors + call.time_options);
  o.channels = call.channels;
  o.frames = call.frames;
  const Live channel = live_of(call.channel_live, call.channel_options), time = live_of(call.time_live, call.time_options);
  const int64_t row = filled(o.channels), n = x.size(0), h = x.size(3), w = x.size(4);
  const at::Tensor shortcut = call.shortcut ? features(*call.shortcut) : at::Tensor();
  const Epilogue last{call.affine ? data(*call.affine) : nullptr, call.shortcut ? shortcut.data_ptr() : nullptr,
                      static_cast<Activation>(call.activation)};
  // With one option that computes everything there is only a factor left of an axis.
  const bool rebuilds_channels = channel.options > 1 || o.kept[channel.at[0]] != o.channels;
  const bool rebuilds_frames = time.options > 1 || o.factors[time.at[0]] != 1 || !rebuilds_channels;
  at::Tensor here = x;
  if (rebuilds_channels) {
    here = like(x, n, row, x.size(2), h, w);
    const at::Tensor weights = rebuilds_frames ? o.v_channel : (o.v_channel * o.v_time.narrow(1, time.at[0], 1)).contiguous();
    fill_channels(channels_call(x, o, channel, weights), x.data_ptr(), rebuilds_frames ? Epilogue{} : last, here.data_ptr(),
                  stream());
  }
  if (!rebuilds_frames) {
    launched();
    return here;
  }
  require(here.size(1) == row, "a channel option that computes everything has computed something else");
  FillFrames f = frames_call(here, o, time);
  if (!rebuilds_channels) {
    f.scale = data(o.v_channel) + channel.at[0];
    f.scale_columns = static_cast<int>(call.channel_options);
  }
  const at::Tensor y = like(x, n, row, o.frames, h, w);
  fill_frames(f, here.data_ptr(), last, y.data_ptr(), stream());
  launched();
  return y;
}

// Training: every option live, and gradients of everything. Tensors: f, v_time, v_channel, then the kernels as published.
struct Mix : torch::autograd::Function<Mix> {
  static at::Tensor forward(AutogradContext* ctx, at::TensorList inputs, at::IntArrayRef kept, at::IntArrayRef factors,
                            int64_t channels) {
    const at::Tensor x = features(inputs[0]);
    const c10::cuda::CUDAGuard guard(x.device());
    const Options o = options_of(inputs.vec(), kept, factors, channels, x.size(2));
    const at::Tensor z = like(x), y = like(x);
    fill_channels(channels_call(x, o, live_of(nullptr, static_cast<int64_t>(kept.size())), o.v_channel), x.data_ptr(), Epilogue{},
                  z.data_ptr(), stream());
    fill_frames(frames_call(z, o, live_of(nullptr, static_cast<int64_t>(factors.size()))), z.data_ptr(), Epilogue{}, y.data_ptr(),
                stream());
    launched();
    variable_list saved = inputs.vec();
    saved[0] = x;
    saved.push_back(z);
    ctx->save_for_backward(saved);
    ctx->saved_data["kept"] = kept.vec();
    ctx->saved_data["factors"] = factors.vec();
    ctx->saved_data["channels"] = channels;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    variable_list saved = ctx->get_saved_variables();
    const at::Tensor z = saved.back(), x = saved[0], dy = features(gradients[0]);
    saved.pop_back();
    const c10::cuda::CUDAGuard guard(x.device());
    const auto kept = ctx->saved_data["kept"].toIntVector(), factors = ctx->saved_data["factors"].toIntVector();
    const Options o = options_of(saved, kept, factors, ctx->saved_data["channels"].toInt(), x.size(2));
    const at::Tensor dz = like(z), dx = like(x);
    fill_frames_backward(frames_call(z, o, live_of(nullptr, static_cast<int64_t>(factors.size()))), dy.data_ptr(), dz.data_ptr(),
                         stream());
    fill_channels_backward(channels_call(x, o, live_of(nullptr, static_cast<int64_t>(kept.size())), o.v_channel), dz.data_ptr(),
                           dx.data_ptr(), stream());
    launched();
    variable_list out{dx, time_weights(o, z, dy), channel_weights(o, x, dz)};
    variable_list kernels;
    const at::Tensor dv_time = out[1].clone(), dv_channel = out[2].clone();
    for (size_t i = 1; i < kept.size(); ++i) kernels.push_back(channel_kernel(o, i, x, dz, dv_channel));
    for (size_t j = 1; j < factors.size(); ++j) {
      for (int64_t k = 1; k < factors[j]; ++k) kernels.push_back(time_kernel(o, j, k, z, dy, dv_time));
    }
    out[1] = dv_time;
    out[2] = dv_channel;
    out.insert(out.end(), kernels.begin(), kernels.end());
    out.resize(out.size() + 3);
    return out;
  }

  static Options options_of(const variable_list& inputs, at::IntArrayRef kept, at::IntArrayRef factors, int64_t channels,
                            int64_t frames) {
    Options o;
    o.v_time = inputs[1].to(at::kFloat).contiguous();
    o.v_channel = inputs[2].to(at::kFloat).contiguous();
    size_t next = 3;
    const auto by_tap = [&] { return inputs[next++].flatten(1).t().contiguous(); };
    for (size_t i = 1; i < kept.size(); ++i) o.channel_kernels.push_back(by_tap());
    for (size_t j = 1; j < factors.size(); ++j) {
      variable_list steps;
      for (int64_t k = 1; k < factors[j]; ++k) steps.push_back(by_tap());
      o.time_kernels.push_back(at::stack(steps));
    }
    o.kept = kept.vec();
    o.factors = factors.vec();
    o.channels = channels;
    o.frames = frames;
    return o;
  }

  // `[n, period, row]`: a · b of every clip, channel and frame modulo the period.
  static at::Tensor dots_of(const at::Tensor& a, const at::Tensor& b, int64_t period) {
    const Dots d{element_of(a), a.size(0), a.size(2), a.size(3) * a.size(4), b.size(1), a.size(1), static_cast<int>(period)};
    const at::Tensor partial = floats(a, {dots_parts(d), d.clips, period, d.row});
    dots(d, a.data_ptr(), b.data_ptr(), data(partial), stream());
    launched();
    return partial.sum(0, false, at::kDouble);
  }

  // What options earn where they have the frame, `[n, options]`.
  static at::Tensor time_weights(const Options& o, const at::Tensor& z, const at::Tensor& dy) {
    const at::Tensor by_phase = dots_of(z, dy, o.factors.back()).sum(2);
    variable_list earned;
    for (const int64_t factor : o.factors) earned.push_back(by_phase.slice(1, 0, std::nullopt, factor).sum(1));
    return at::stack(earned, 1).to(at::kFloat);
  }

  // What options earn where they have the channel, `[n, options]`.
  static at::Tensor channel_weights(const Options& o, const at::Tensor& x, const at::Tensor& dz) {
    const at::Tensor by_channel = dots_of(x, dz, 1).squeeze(1);
    variable_list earned;
    for (const int64_t kept : o.kept) earned.push_back(by_channel.narrow(1, 0, kept).sum(1));
    return at::stack(earned, 1).to(at::kFloat);
  }

  // The gradient of kernels `[q, 1, 3, 3]` that weigh `v [n]` in a clip; adds to `dv [n]` what they earn.
  static at::Tensor kernel(const Taps& t, const at::Tensor& x, const at::Tensor& dy, const at::Tensor& by_tap, const at::Tensor& v,
                           const at::Tensor& dv) {
    const at::Tensor partial = floats(x, {taps_parts(t), t.clips, 9, t.kernels});
    taps(t, x.data_ptr(), dy.data_ptr(), data(partial), stream());
    launched();
    const at::Tensor earned = partial.sum(0, false, at::kDouble).narrow(2, 0, t.real);
    at::Tensor(dv).add_((earned * by_tap).sum({1, 2}).to(at::kFloat));
    return (earned * v.view({-1, 1, 1})).sum(0).t().to(at::kFloat).reshape({t.real, 1, 3, 3});
  }

  static at::Tensor channel_kernel(const Options& o, size_t i, const at::Tensor& x, const at::Tensor& dz, const at::Tensor& dv) {
    const int64_t missing = o.channels - o.kept[i];
    const Taps t{element_of(x), x.size(0), x.size(3), x.size(4), x.size(1), dz.size(1), x.size(2), dz.size(2), 0, 1, 0, 1, x.size(2),
                 o.kept[i], filled(missing), missing, (1 << i) - 1};
    return kernel(t, x, dz, o.channel_kernels[i - 1], o.v_channel.select(1, static_cast<int64_t>(i)), dv.select(1, static_cast<int64_t>(i)));
  }

  static at::Tensor time_kernel(const Options& o, size_t j, int64_t k, const at::Tensor& z, const at::Tensor& dy,
                                const at::Tensor& dv) {
    const int64_t factor = o.factors[j], count = (z.size(2) - k + factor - 1) / factor;
    const Taps t{element_of(z), z.size(0), z.size(3), z.size(4), z.size(1), dy.size(1), z.size(2), dy.size(2), 0, factor, k, factor,
                 count > 0 ? count : 0, 0, filled(o.channels), o.channels, 1};
    return kernel(t, z, dy, o.time_kernels[j - 1][k - 1], o.v_time.select(1, static_cast<int64_t>(j)), dv.select(1, static_cast<int64_t>(j)));
  }
};

}  // namespace
}  // namespace vared

extern "C" {

int vared_cuda_abi() { return VARED_CUDA_ABI; }

const char* vared_cuda_error() { return vared::last_error.c_str(); }

int vared_cuda_configure(int tf32, int deterministic) {
  auto* done = vared::caught([&] {
    auto& context = at::globalContext();
    context.setAllowTF32CuBLAS(tf32 != 0);
    context.setAllowTF32CuDNN(tf32 != 0);
    context.setDeterministicCuDNN(deterministic != 0);
    context.setBenchmarkCuDNN(deterministic == 0);
    // What has no fixed order throws then, and names itself. cuBLAS asks for this setting; set before its first use.
    if (deterministic) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
    context.setDeterministicAlgorithms(deterministic != 0, false);
    context.setDeterministicFillUninitializedMemory(false);
    return at::Tensor();
  });
  delete done;
  return done ? 0 : 1;
}

int vared_cuda_memory(int device, int reset, int64_t* now, int64_t* peak) {
  auto* done = vared::caught([&] {
    namespace memory = c10::cuda::CUDACachingAllocator;
    const auto index = static_cast<c10::DeviceIndex>(device);
    const auto bytes = memory::getDeviceStats(index).allocated_bytes[0];
    *now = bytes.current;
    *peak = bytes.peak;
    if (reset) memory::resetPeakStats(index);
    return at::Tensor();
  });
  delete done;
  return done ? 0 : 1;
}

at::Tensor* vared_cuda_upload(const at::Tensor* x, int device) {
  return vared::caught([&] {
    const at::Tensor pinned = at::empty(x->sizes(), x->options().pinned_memory(true));
    pinned.copy_(*x);
    return pinned.to(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)), /*non_blocking=*/true);
  });
}

at::Tensor* vared_cuda_stage(const at::Tensor* x, int device) {
  return vared::caught([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    const c10::cuda::CUDAGuard guard(index);
    const c10::cuda::CUDAStreamGuard aside(c10::cuda::getStreamFromPool(false, index));
    const at::Tensor pinned = at::empty(x->sizes(), x->options().pinned_memory(true));
    pinned.copy_(*x);
    const at::Tensor staged = pinned.to(at::Device(at::kCUDA, index), /*non_blocking=*/true);
    c10::cuda::getCurrentCUDAStream(index).synchronize();
    return staged;
  });
}

int vared_cuda_adopt(const at::Tensor* x) {
  auto* done = vared::caught([&] {
    x->record_stream(c10::cuda::getCurrentCUDAStream(x->device().index()));
    return at::Tensor();
  });
  delete done;
  return done ? 0 : 1;
}

at::Tensor* vared_cuda_features(const at::Tensor* x, int bfloat16) {
  return vared::caught([&] {
    const at::Tensor last = x->permute({0, 2, 3, 4, 1}).to(bfloat16 ? at::kBFloat16 : at::kFloat);
    const int64_t missing = vared::filled(x->size(1)) - x->size(1);
    const at::Tensor rows = missing == 0 ? last : at::constant_pad_nd(last, {0, missing});
    return vared::features(rows.permute({0, 4, 1, 2, 3}));
  });
}

at::Tensor* vared_cuda_conv(const at::Tensor* x, const at::Tensor* weight, const VaredCudaConv* conv) {
  return vared::caught([&] { return vared::convolve(*x, *weight, *conv); });
}

at::Tensor* vared_cuda_pack(const at::Tensor* weight, const at::Tensor* x, int depthwise) {
  return vared::caught([&] { return depthwise ? vared::taps_of(*weight) : vared::pack(*weight, *x); });
}

at::Tensor* vared_cuda_depthwise(const at::Tensor* x, const at::Tensor* weight, int64_t stride_frames, int64_t stride) {
  return vared::caught([&] { return vared::DepthwiseConv::apply(*x, vared::taps_of(*weight), stride_frames, stride); });
}

at::Tensor* vared_cuda_max_pool(const at::Tensor* x, const VaredCudaPool* pool) {
  return vared::caught([&] {
    std::vector<int64_t> sizes;
    for (const auto* triple : {pool->kernel, pool->stride, pool->padding, pool->out}) sizes.insert(sizes.end(), triple, triple + 3);
    return vared::MaxPooling::apply(*x, at::IntArrayRef(sizes));
  });
}

at::Tensor* vared_cuda_norm(const at::Tensor* x, const VaredCudaNorm* norm, const at::Tensor* shortcut, int activation, int train) {
  return vared::caught([&] {
    vared::require(!shortcut || activation == 1, "a shortcut comes with ReLU");
    if (!train) {
      const at::NoGradGuard guard;
      return vared::affine_of(*x, vared::scale_of(*x, *norm), shortcut, activation);
    }
    const std::optional<at::Tensor> joined = shortcut ? std::optional<at::Tensor>(*shortcut) : std::nullopt;
    return vared::NormAct::apply(*x, *norm->weight, *norm->bias, joined, *norm->mean, *norm->variance, norm->eps,
                                 static_cast<int64_t>(activation));
  });
}

at::Tensor* vared_cuda_scale(const at::Tensor* x, const VaredCudaNorm* norm) {
  return vared::caught([&] { return vared::scale_of(*x, *norm); });
}

at::Tensor* vared_cuda_affine(const at::Tensor* x, const at::Tensor* affine, const at::Tensor* shortcut, int activation) {
  return vared::caught([&] { return vared::affine_of(*x, *affine, shortcut, activation); });
}

at::Tensor* vared_cuda_means(const at::Tensor* x, at::Tensor** onward) {
  return vared::caught([&] {
    const torch::autograd::variable_list both = vared::Means::apply(*x);
    *onward = new at::Tensor(both[0]);
    return both[1];
  });
}

at::Tensor* vared_cuda_fill(const VaredCudaFill* fill) {
  return vared::caught([&] { return vared::fill(*fill); });
}

at::Tensor* vared_cuda_mix(const VaredCudaFill* mix) {
  return vared::caught([&] {
    torch::autograd::variable_list tensors{*mix->computed, *mix->time_weights, *mix->channel_weights};
    for (int64_t i = 0; i + 1 < mix->channel_options; ++i) tensors.push_back(*mix->channel_kernels[i]);
    int64_t steps = 0;
    for (int64_t j = 1; j < mix->time_options; ++j) steps += mix->factors[j] - 1;
    for (int64_t i = 0; i < steps; ++i) tensors.push_back(*mix->time_kernels[i]);
    return vared::Mix::apply(at::TensorList(tensors), at::IntArrayRef(mix->kept, mix->channel_options),
                             at::IntArrayRef(mix->factors, mix->time_options), mix->channels);
  });
}

}  // extern "C"

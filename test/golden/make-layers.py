#!/usr/bin/env python3
"""Writes layers.json: outputs and gradients of the layers of TensorFlow.js, from PyTorch in float64.

    python3 test/golden/make-layers.py        (needs torch; the tests read only the JSON)

Layers follow Keras 2 as TensorFlow.js 4.22 has it: channels last, 'same' padding as TensorFlow computes it.
The gradient is that of sum(output * upstream). Input values are distinct within a tensor, so that no maximum
ties, and half of them are negative.
"""
import json
import math
import os
import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
random = np.random.RandomState(7)
cases = []


def tensor(shape, scale=2.0):
    """Distinct values in about -scale..scale, none of them 0, none the same in two tensors of one case."""
    n = int(np.prod(shape))
    values = (random.permutation(n) - n / 2 + random.uniform(0.2, 0.8)) * (2 * scale / n)
    return torch.tensor(np.round(values, 4).astype(np.float32).astype(np.float64).reshape(shape), requires_grad=True)


def compact(v):
    v = float('%.6g' % v)
    return int(v) if v == int(v) else v


def pack(t):
    return {'shape': list(t.shape), 'data': [compact(v) for v in t.detach().numpy().ravel()]}


def case(name, layers, inputs, weights, function, training=True, dtypes=None):
    """`layers`: one layer or a chain, each [factory of tf.layers, args]."""
    layers = [layers] if isinstance(layers[0], str) else layers
    inputs = [tensor(i) if isinstance(i, (tuple, list)) else i for i in inputs]
    weights = [tensor(w, 0.8) if isinstance(w, (tuple, list)) else w for w in weights]
    out = function(*inputs, *weights)
    upstream = tensor(out.shape, 1.0).detach()
    wanted = [t for t in inputs + weights if t.requires_grad]
    grads = dict(zip([id(t) for t in wanted], torch.autograd.grad((out * upstream).sum(), wanted, allow_unused=True)))
    zero = lambda t, g: torch.zeros_like(t) if g is None else g
    record = {
        'name': name, 'layers': layers, 'training': training, 'inputs': [pack(t) for t in inputs],
        'weights': [pack(t) for t in weights], 'output': pack(out), 'upstream': pack(upstream),
        'inputGrads': [pack(zero(t, grads[id(t)])) if t.requires_grad else None for t in inputs],
        'weightGrads': [pack(zero(t, grads[id(t)])) for t in weights],
    }
    if dtypes:
        record['dtypes'] = dtypes
    cases.append(record)


# --- helpers -------------------------------------------------------------------------------------------------
def first(x):  # channels last to first
    return x.permute(0, x.dim() - 1, *range(1, x.dim() - 1))


def last(x):
    return x.permute(0, *range(2, x.dim()), 1)


def tup(v, dims):
    return tuple(v) if isinstance(v, (list, tuple)) else (v,) * dims


def same_pads(size, k, s, d):
    total = max((math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size, 0)
    return total // 2, total - total // 2


def pad_for(x, k, s, d, padding, value=0.0):
    """x channels first."""
    if padding == 'valid':
        return x
    pads = []
    for axis in reversed(range(len(k))):
        pads += list(same_pads(x.shape[2 + axis], k[axis], s[axis], d[axis]))
    return F.pad(x, pads, value=value)


CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_T = {2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def conv(x, w, strides=1, padding='valid', dilation=1, groups=1):
    dims = x.dim() - 2
    s, d = tup(strides, dims), tup(dilation, dims)
    xp = pad_for(first(x), w.shape[:dims], s, d, padding)
    w = w.permute(dims + 1, dims, *range(dims))
    return last(CONV[dims](xp, w, None, s, 0, d, groups))


def conv_transpose(x, w, strides, padding):
    """w: [..., out, in]."""
    dims = x.dim() - 2
    s, k = tup(strides, dims), w.shape[:dims]
    full = CONV_T[dims](first(x), w.permute(dims + 1, dims, *range(dims)), None, s)
    pads = []
    for axis in reversed(range(dims)):
        n, out = full.shape[2 + axis], None
        if padding == 'valid':
            out, before = x.shape[1 + axis] * s[axis] + max(k[axis] - s[axis], 0), 0
        else:
            out, before = x.shape[1 + axis] * s[axis], max(k[axis] - s[axis], 0) // 2
        pads += [-before, out + before - n]
    return last(F.pad(full, pads))


def depthwise(x, w, strides=1, padding='valid', dilation=1):
    """w: [kh, kw, in, multiplier]."""
    kh, kw, c, m = w.shape
    xp = pad_for(first(x), (kh, kw), tup(strides, 2), tup(dilation, 2), padding)
    return last(F.conv2d(xp, w.permute(2, 3, 0, 1).reshape(c * m, 1, kh, kw), None, strides, 0, dilation, c))


def max_pool(x, k, s, padding):
    dims = x.dim() - 2
    k, s = tup(k, dims), tup(s, dims)
    return last(MAX_POOL[dims](pad_for(first(x), k, s, (1,) * dims, padding, -math.inf), k, s))


def avg_pool(x, k, s, padding):
    dims = x.dim() - 2
    k, s = tup(k, dims), tup(s, dims)
    both = [AVG_POOL[dims](pad_for(first(t), k, s, (1,) * dims, padding), k, s) for t in (x, torch.ones_like(x))]
    return last(both[0] / both[1])


def hard_sigmoid(x):
    return torch.clamp(0.2 * x + 0.5, 0, 1)


# --- dense and activations -----------------------------------------------------------------------------------
for n, i, o in [(3, 5, 4), (1, 7, 3), (9, 16, 17), (5, 1, 1)]:
    case(f'dense {n}x{i}->{o}', ['dense', {'units': o}], [(n, i)], [(i, o), (o,)], lambda x, w, b: x @ w + b)
case('dense without bias', ['dense', {'units': 3, 'useBias': False}], [(4, 6)], [(6, 3)], lambda x, w: x @ w)
case('dense on rank 3', ['dense', {'units': 3}], [(2, 4, 5)], [(5, 3), (3,)], lambda x, w, b: x @ w + b)
case('dense on rank 4', ['dense', {'units': 3}], [(2, 3, 2, 5)], [(5, 3), (3,)], lambda x, w, b: x @ w + b)
ACTIVATIONS = {
    'elu': F.elu, 'hardSigmoid': hard_sigmoid, 'linear': lambda x: x, 'relu': F.relu,
    'relu6': lambda x: torch.clamp(x, 0, 6), 'selu': F.selu, 'sigmoid': torch.sigmoid,
    'softmax': lambda x: F.softmax(x, -1), 'softplus': F.softplus, 'softsign': F.softsign, 'tanh': torch.tanh,
    'logSoftmax': lambda x: F.log_softmax(x, -1), 'swish': F.silu, 'mish': F.mish,
    'gelu': lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    'gelu_new': lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))),
}
for name, f in ACTIVATIONS.items():
    case(f'activation {name}', ['activation', {'activation': name}], [tensor((3, 17), 8.0)], [], f)
    case(f'dense with {name}', ['dense', {'units': 6, 'activation': name}], [(3, 5)], [(5, 6), (6,)],
         lambda x, w, b, f=f: f(x @ w + b))
case('ReLU', ['reLU', {}], [(3, 4, 5)], [], F.relu)
case('ReLU maxValue', ['reLU', {'maxValue': 1.1}], [(3, 4, 5)], [], lambda x: torch.clamp(x, 0, 1.1))
case('LeakyReLU', ['leakyReLU', {}], [(3, 4, 5)], [], lambda x: F.leaky_relu(x, 0.3))
case('LeakyReLU alpha', ['leakyReLU', {'alpha': 0.1}], [(2, 9)], [], lambda x: F.leaky_relu(x, 0.1))
case('ELU', ['elu', {}], [(3, 7)], [], F.elu)
case('ThresholdedReLU', ['thresholdedReLU', {'theta': 0.5}], [(3, 7)], [], lambda x: x * (x > 0.5))
case('Softmax', ['softmax', {'axis': -1}], [(3, 7)], [], lambda x: F.softmax(x, -1))
case('Softmax axis 1', ['softmax', {'axis': 1}], [(3, 7)], [], lambda x: F.softmax(x, 1))
case('Softmax rank 3', ['softmax', {'axis': -1}], [(2, 3, 4)], [], lambda x: F.softmax(x, -1))
case('Softmax axes', ['softmax', {'axis': [1, 2]}], [(2, 3, 4)], [],
     lambda x: F.softmax(x.reshape(2, 12), -1).reshape(2, 3, 4))
prelu = lambda x, a: torch.where(x > 0, x, a * x)
case('PReLU', ['prelu', {}], [(3, 7)], [(7,)], prelu)
case('PReLU images', ['prelu', {}], [(2, 3, 4, 2)], [(3, 4, 2)], prelu)
case('PReLU shared', ['prelu', {'sharedAxes': [1, 2]}], [(2, 3, 4, 2)], [(1, 1, 2)], prelu)

# --- convolutions --------------------------------------------------------------------------------------------
for name, xs, k, o, s, p, d in [
    ('plain', (2, 5, 6, 3), (3, 2), 4, 1, 'valid', 1),
    ('same', (2, 5, 6, 3), 3, 4, 1, 'same', 1),
    ('one channel', (3, 7, 7, 1), 5, 2, 1, 'valid', 1),
    ('stride 2', (2, 7, 6, 2), 3, 3, 2, 'valid', 1),
    ('stride 2 same', (2, 7, 6, 2), 3, 3, 2, 'same', 1),
    ('stride 2 same even', (2, 6, 8, 2), 2, 3, 2, 'same', 1),
    ('stride 2x3', (2, 8, 9, 2), (2, 3), 3, (2, 3), 'valid', 1),
    ('stride 3 leaves a rest', (2, 9, 8, 2), 2, 3, 3, 'valid', 1),
    ('stride over kernel', (2, 7, 7, 2), 1, 3, 3, 'same', 1),
    ('row, strided along columns', (2, 4, 5, 2), (1, 2), 3, (2, 1), 'same', 1), ('column, stride 2', (2, 5, 4, 2), (3, 1), 3, 2, 'same', 1),
    ('1x1', (2, 4, 5, 3), 1, 5, 1, 'valid', 1),
    ('dilation 2', (2, 7, 8, 2), 3, 3, 1, 'valid', 2),
    ('dilation 2x3 same', (2, 7, 8, 2), (3, 2), 3, 1, 'same', (2, 3)),
    ('wide', (2, 4, 4, 9), 3, 10, 1, 'same', 1),
]:
    kk = tup(k, 2)
    args = {'filters': o, 'kernelSize': k, 'strides': s, 'padding': p, 'dilationRate': d}
    case(f'conv2d {name}', ['conv2d', args], [xs], [(*kk, xs[3], o), (o,)],
         lambda x, w, b, s=s, p=p, d=d: conv(x, w, s, p, d) + b)
case('conv2d channels first', ['conv2d', {'filters': 3, 'kernelSize': 3, 'dataFormat': 'channelsFirst'}], [(2, 2, 5, 6)],
     [(3, 3, 2, 3), (3,)], lambda x, w, b: first(conv(last(x), w) + b))
case('conv2d relu no bias', ['conv2d', {'filters': 3, 'kernelSize': 3, 'activation': 'relu', 'useBias': False}],
     [(2, 5, 6, 2)], [(3, 3, 2, 3)], lambda x, w: F.relu(conv(x, w)))
case('conv2d elu', ['conv2d', {'filters': 3, 'kernelSize': 3, 'activation': 'elu'}],
     [(2, 5, 6, 2)], [(3, 3, 2, 3), (3,)], lambda x, w, b: F.elu(conv(x, w) + b))
case('conv2d sigmoid', ['conv2d', {'filters': 3, 'kernelSize': 3, 'activation': 'sigmoid'}],
     [(2, 5, 6, 2)], [(3, 3, 2, 3), (3,)], lambda x, w, b: torch.sigmoid(conv(x, w) + b))
for name, xs, k, o, s, p, d in [
    ('plain', (2, 9, 3), 3, 4, 1, 'valid', 1), ('same', (2, 9, 3), 4, 4, 1, 'same', 1),
    ('stride 2', (3, 9, 2), 3, 3, 2, 'valid', 1), ('stride 2 same', (3, 8, 2), 3, 3, 2, 'same', 1),
    ('dilation 2', (2, 9, 2), 3, 3, 1, 'valid', 2),
    ('1 stride 2 same', (2, 9, 2), 1, 3, 2, 'same', 1),
]:
    args = {'filters': o, 'kernelSize': k, 'strides': s, 'padding': p, 'dilationRate': d}
    case(f'conv1d {name}', ['conv1d', args], [xs], [(k, xs[2], o), (o,)],
         lambda x, w, b, s=s, p=p, d=d: conv(x, w, s, p, d) + b)
for name, xs, k, o, s, p, d in [
    ('plain', (2, 4, 5, 4, 2), (2, 3, 2), 3, 1, 'valid', 1), ('same', (2, 3, 4, 4, 2), 3, 2, 1, 'same', 1),
    ('stride 2', (2, 5, 4, 5, 2), 2, 3, 2, 'valid', 1), ('stride 2x1x2 same', (2, 5, 4, 5, 2), 3, 2, (2, 1, 2), 'same', 1),
    ('dilation 2', (1, 5, 5, 6, 2), 2, 2, 1, 'valid', 2), ('one channel', (2, 4, 4, 4, 1), 2, 2, 1, 'valid', 1),
]:
    kk = tup(k, 3)
    args = {'filters': o, 'kernelSize': k, 'strides': s, 'padding': p, 'dilationRate': d}
    case(f'conv3d {name}', ['conv3d', args], [xs], [(*kk, xs[4], o), (o,)],
         lambda x, w, b, s=s, p=p, d=d: conv(x, w, s, p, d) + b)
for name, xs, k, o, s, p in [
    ('plain', (2, 3, 4, 2), 3, 3, 1, 'valid'), ('same', (2, 3, 4, 2), 3, 3, 1, 'same'),
    ('stride 2', (2, 3, 4, 3), 3, 2, 2, 'valid'), ('stride 2 same', (2, 3, 4, 3), 3, 2, 2, 'same'),
    ('stride 2x3', (2, 3, 3, 2), (2, 4), 3, (2, 3), 'same'), ('stride over kernel', (2, 3, 3, 2), 1, 3, 2, 'valid'),
]:
    kk = tup(k, 2)
    case(f'conv2dTranspose {name}', ['conv2dTranspose', {'filters': o, 'kernelSize': k, 'strides': s, 'padding': p}],
         [xs], [(*kk, o, xs[3]), (o,)], lambda x, w, b, s=s, p=p: conv_transpose(x, w, s, p) + b)
for name, xs, k, o, s, p in [
    ('plain', (2, 2, 3, 2, 2), 2, 3, 1, 'valid'), ('same', (2, 2, 3, 2, 2), 3, 2, 1, 'same'),
    ('stride 2 same', (2, 2, 3, 2, 2), 3, 2, 2, 'same'), ('stride 2', (2, 2, 2, 3, 2), 3, 2, 2, 'valid'),
]:
    kk = tup(k, 3)
    case(f'conv3dTranspose {name}', ['conv3dTranspose', {'filters': o, 'kernelSize': k, 'strides': s, 'padding': p}],
         [xs], [(*kk, o, xs[4]), (o,)], lambda x, w, b, s=s, p=p: conv_transpose(x, w, s, p) + b)
for name, xs, k, m, s, p, d in [
    ('plain', (2, 5, 6, 3), 3, 1, 1, 'valid', 1), ('multiplier 2', (2, 5, 6, 3), (3, 2), 2, 1, 'valid', 1),
    ('same', (2, 5, 6, 3), 3, 2, 1, 'same', 1), ('stride 2', (2, 7, 6, 2), 3, 2, 2, 'valid', 1),
    ('stride 2 same', (2, 7, 6, 5), 3, 1, 2, 'same', 1), ('column, stride 2', (2, 5, 4, 2), (3, 1), 2, 2, 'same', 1),
    ('8 channels', (2, 5, 5, 8), 3, 1, 1, 'same', 1),
]:
    kk = tup(k, 2)
    args = {'kernelSize': k, 'depthMultiplier': m, 'strides': [s, s], 'padding': p}
    case(f'depthwiseConv2d {name}', ['depthwiseConv2d', args], [xs], [(*kk, xs[3], m), (xs[3] * m,)],
         lambda x, w, b, s=s, p=p, d=d: depthwise(x, w, s, p, d) + b)
for name, xs, k, m, o, s, p, d in [
    ('plain', (2, 5, 6, 3), 3, 1, 4, 1, 'valid', 1), ('multiplier 2 same', (2, 5, 6, 2), 3, 2, 3, 1, 'same', 1),
    ('stride 2 same', (2, 7, 6, 2), 3, 2, 3, 2, 'same', 1), ('dilation 2', (2, 7, 7, 2), 3, 1, 3, 1, 'valid', 2),
]:
    args = {'filters': o, 'kernelSize': k, 'depthMultiplier': m, 'strides': s, 'padding': p, 'dilationRate': d}
    case(f'separableConv2d {name}', ['separableConv2d', args], [xs],
         [(k, k, xs[3], m), (1, 1, xs[3] * m, o), (o,)],
         lambda x, wd, wp, b, s=s, p=p, d=d: conv(depthwise(x, wd, s, p, d), wp) + b)

# --- pooling -------------------------------------------------------------------------------------------------
POOLS = {
    1: [((2, 9, 3), 2, 2, 'valid'), ((2, 9, 3), 3, 2, 'same'), ((2, 8, 2), 3, 1, 'same'), ((2, 9, 2), 2, 3, 'valid')],
    2: [((2, 6, 7, 3), 2, 2, 'valid'), ((2, 6, 7, 3), 2, 2, 'same'), ((2, 7, 7, 2), 3, 2, 'valid'),
        ((2, 7, 6, 2), 3, 2, 'same'), ((2, 5, 5, 2), 3, 1, 'same'), ((2, 7, 8, 2), (3, 2), (1, 3), 'same'),
        ((2, 7, 8, 5), 2, 3, 'valid'), ((2, 4, 5, 3), 1, 1, 'valid'), ((2, 4, 5, 3), 1, 2, 'same'), ((2, 4, 5, 2), (1, 3), 1, 'same')],
    3: [((2, 4, 3, 4, 2), 1, 1, 'valid'), ((2, 4, 5, 4, 2), 2, 2, 'valid'), ((2, 5, 4, 5, 2), 2, 2, 'same'), ((2, 5, 4, 5, 2), 3, 2, 'same'),
        ((1, 4, 4, 5, 3), 2, 1, 'valid'), ((2, 4, 4, 5, 1), (1, 2, 3), (2, 1, 2), 'same')],
}
for dims, list_ in POOLS.items():
    for xs, k, s, p in list_:
        for kind, f in (('max', max_pool), ('average', avg_pool)):
            case(f'{kind}Pooling{dims}d {k} stride {s} {p} {xs}', [f'{kind}Pooling{dims}d', {'poolSize': k, 'strides': s, 'padding': p}],
                 [xs], [], lambda x, k=k, s=s, p=p, f=f: f(x, k, s, p))
for kind in ('max', 'average'):  # all windows negative
    case(f'{kind}Pooling2d of negative values', [f'{kind}Pooling2d', {'poolSize': 2}],
         [torch.tensor(tensor((2, 4, 4, 2)).detach().numpy() - 5, requires_grad=True)], [],
         lambda x, kind=kind: (max_pool if kind == 'max' else avg_pool)(x, 2, 2, 'valid'))
    case(f'{kind}Pooling3d of negative values', [f'{kind}Pooling3d', {'poolSize': 2}],
         [torch.tensor(tensor((2, 2, 4, 4, 2)).detach().numpy() - 5, requires_grad=True)], [],
         lambda x, kind=kind: (max_pool if kind == 'max' else avg_pool)(x, 2, 2, 'valid'))
    case(f'{kind}Pooling2d channels first', [f'{kind}Pooling2d', {'poolSize': 2, 'dataFormat': 'channelsFirst'}], [(2, 3, 4, 6)],
         [], lambda x, kind=kind: first((max_pool if kind == 'max' else avg_pool)(last(x), 2, 2, 'valid')))
case('globalAveragePooling1d', ['globalAveragePooling1d', {}], [(2, 5, 3)], [], lambda x: x.mean(1))
case('globalMaxPooling1d', ['globalMaxPooling1d', {}], [(2, 5, 3)], [], lambda x: x.amax(1))
for fmt in ('channelsLast', 'channelsFirst'):
    axes = (1, 2) if fmt == 'channelsLast' else (2, 3)
    case(f'globalAveragePooling2d {fmt}', ['globalAveragePooling2d', {'dataFormat': fmt}], [(2, 3, 4, 5)], [],
         lambda x, a=axes: x.mean(a))
    case(f'globalMaxPooling2d {fmt}', ['globalMaxPooling2d', {'dataFormat': fmt}], [(2, 3, 4, 5)], [],
         lambda x, a=axes: x.amax(a))
ties = torch.tensor([[[0.0, 1], [0, 3], [-1, 3], [0, 2]], [[-2, 1], [-2, 1], [-3, 1], [-2, 1]]], requires_grad=True)
case('globalMaxPooling1d shares ties', ['globalMaxPooling1d', {}], [ties], [], lambda x: x.amax(1))

# --- normalisation -------------------------------------------------------------------------------------------
def batch_norm(x, g, b, axis, eps):
    axes = [i for i in range(x.dim()) if i != axis % x.dim()]
    shape = [-1 if i == axis % x.dim() else 1 for i in range(x.dim())]
    mean = x.mean(axes, keepdim=True)
    var = ((x - mean) ** 2).mean(axes, keepdim=True)
    out = (x - mean) / torch.sqrt(var + eps)
    return out * (1 if g is None else g.reshape(shape)) + (0 if b is None else b.reshape(shape))


for name, xs, axis, eps in [('rank 2', (5, 3), -1, 1e-3), ('rank 3', (3, 4, 3), -1, 1e-3), ('rank 4', (2, 3, 4, 3), -1, 1e-2),
                            ('rank 4 axis 1', (2, 3, 4, 2), 1, 1e-3), ('rank 3 axis 1', (4, 3, 2), 1, 1e-3)]:
    c = xs[axis]
    case(f'batchNormalization {name}', ['batchNormalization', {'axis': axis, 'epsilon': eps}], [xs], [(c,), (c,)],
         lambda x, g, b, a=axis, e=eps: batch_norm(x, g, b, a, e))
    case(f'batchNormalization {name} inference', ['batchNormalization', {'axis': axis, 'epsilon': eps}], [xs], [(c,), (c,)],
         lambda x, g, b, a=axis, e=eps: x / math.sqrt(1 + e) * g.reshape([-1 if i == a % x.dim() else 1 for i in range(x.dim())])
         + b.reshape([-1 if i == a % x.dim() else 1 for i in range(x.dim())]), training=False)
case('batchNormalization without center', ['batchNormalization', {'center': False}], [(5, 3)], [(3,)],
     lambda x, g: batch_norm(x, g, None, -1, 1e-3))
case('batchNormalization without scale', ['batchNormalization', {'scale': False}], [(5, 3)], [(3,)],
     lambda x, b: batch_norm(x, None, b, -1, 1e-3))


def layer_norm(x, g, b, axes, eps=1e-3):
    axes = [a % x.dim() for a in axes]
    mean = x.mean(axes, keepdim=True)
    var = ((x - mean) ** 2).mean(axes, keepdim=True)
    shape = [x.shape[i] if i in axes else 1 for i in range(x.dim())]
    return (x - mean) / torch.sqrt(var + eps) * (1 if g is None else g.reshape(shape)) + (0 if b is None else b.reshape(shape))


for name, xs, axes in [('rank 2', (4, 5), [-1]), ('rank 3', (2, 4, 5), [-1]), ('rank 4', (2, 3, 4, 2), [-1]),
                       ('axes 1 2', (2, 3, 4, 2), [1, 2]), ('axis 1', (2, 3, 4), [1])]:
    ws = tuple(xs[a] for a in axes)
    case(f'layerNormalization {name}', ['layerNormalization', {'axis': axes if len(axes) > 1 else axes[0]}], [xs], [ws, ws],
         lambda x, g, b, a=axes: layer_norm(x, g, b, a))
case('layerNormalization without scale', ['layerNormalization', {'scale': False}], [(4, 5)], [(5,)],
     lambda x, b: layer_norm(x, None, b, [-1]))
case('layerNormalization without center', ['layerNormalization', {'center': False}], [(4, 5)], [(5,)],
     lambda x, g: layer_norm(x, g, None, [-1]))

# --- embedding, merging, shaping -----------------------------------------------------------------------------
ids = torch.tensor([[1.0, 4, 1], [0, 6, 4]])
case('embedding', ['embedding', {'inputDim': 7, 'outputDim': 3}], [ids], [(7, 3)], lambda i, w: w[i.long()], dtypes=['int32'])
case('embedding of one index', ['embedding', {'inputDim': 7, 'outputDim': 3}], [torch.tensor([[3.0], [3], [1]])], [(7, 3)],
     lambda i, w: w[i.long()], dtypes=['int32'])
case('embedding with float indices', ['embedding', {'inputDim': 7, 'outputDim': 3}], [ids], [(7, 3)], lambda i, w: w[i.long()])
for name, f in {
    'add': lambda a, b: a + b, 'multiply': lambda a, b: a * b, 'average': lambda a, b: (a + b) / 2,
    'maximum': torch.maximum, 'minimum': torch.minimum,
}.items():
    case(name, [name, {}], [(3, 4), (3, 4)], [], f)
    case(f'{name} broadcast', [name, {}], [(2, 3, 4), (2, 1, 4)], [], f)
case('multiply of three', ['multiply', {}], [(3, 4)] * 3, [], lambda a, b, c: a * b * c)
case('maximum of three', ['maximum', {}], [(3, 4)] * 3, [], lambda a, b, c: torch.maximum(torch.maximum(a, b), c))
case('concatenate', ['concatenate', {}], [(3, 4), (3, 2)], [], lambda a, b: torch.cat([a, b], -1))
case('concatenate axis 1', ['concatenate', {'axis': 1}], [(2, 3, 4), (2, 2, 4)], [], lambda a, b: torch.cat([a, b], 1))
case('dot', ['dot', {'axes': -1}], [(3, 4), (3, 4)], [], lambda a, b: (a * b).sum(-1, keepdim=True))
case('dot rank 3', ['dot', {'axes': [2, 1]}], [(2, 3, 4), (2, 4, 5)], [], lambda a, b: a @ b)
case('dot rank 3 axes 2', ['dot', {'axes': 2}], [(2, 3, 4), (2, 5, 4)], [], lambda a, b: a @ b.transpose(1, 2))
case('dot rank 3 axes 1', ['dot', {'axes': 1}], [(2, 4, 3), (2, 4, 5)], [], lambda a, b: a.transpose(1, 2) @ b)
unit = lambda t, axis: t * torch.rsqrt((t * t).sum(axis, keepdim=True))
case('dot normalized', ['dot', {'axes': -1, 'normalize': True}], [(3, 4), (3, 4)], [],
     lambda a, b: (unit(a, -1) * unit(b, -1)).sum(-1, keepdim=True))
case('flatten', ['flatten', {}], [(2, 3, 4)], [], lambda x: x.reshape(2, 12))
case('flatten channels first', ['flatten', {'dataFormat': 'channelsFirst'}], [(2, 3, 4, 2)], [], lambda x: last(x).reshape(2, 24))
case('reshape', ['reshape', {'targetShape': [4, -1]}], [(2, 3, 8)], [], lambda x: x.reshape(2, 4, 6))
case('permute', ['permute', {'dims': [3, 1, 2]}], [(2, 3, 4, 5)], [], lambda x: x.permute(0, 3, 1, 2))
case('repeatVector', ['repeatVector', {'n': 3}], [(2, 4)], [], lambda x: x[:, None].repeat(1, 3, 1))
case('cropping2D', ['cropping2D', {'cropping': [[1, 0], [2, 1]]}], [(2, 4, 6, 2)], [], lambda x: x[:, 1:, 2:-1])
case('cropping2D channels first', ['cropping2D', {'cropping': 1, 'dataFormat': 'channelsFirst'}], [(2, 2, 4, 6)], [],
     lambda x: x[:, :, 1:-1, 1:-1])
case('zeroPadding2d', ['zeroPadding2d', {'padding': [[1, 0], [2, 1]]}], [(2, 3, 4, 2)], [],
     lambda x: F.pad(x, (0, 0, 2, 1, 1, 0)))
case('zeroPadding2d channels first', ['zeroPadding2d', {'padding': 1, 'dataFormat': 'channelsFirst'}], [(2, 2, 3, 4)], [],
     lambda x: F.pad(x, (1, 1, 1, 1)))


def bilinear(x, h, w):
    """No half-pixel centres: source = target * in / out, as TensorFlow 1 did."""
    for axis, out in ((1, h), (2, w)):
        n = x.shape[axis]
        at = torch.arange(out) * (n / out)
        low = at.floor().long()
        high = torch.clamp(at.ceil().long(), max=n - 1)
        part = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
        x = x.index_select(axis, low) * (1 - part) + x.index_select(axis, high) * part
    return x


def nearest(x, h, w):
    for axis, out in ((1, h), (2, w)):
        index = torch.clamp((torch.arange(out) * (x.shape[axis] / out)).floor().long(), max=x.shape[axis] - 1)
        x = x.index_select(axis, index)
    return x


for name, xs, size in [('2x2', (2, 3, 4, 3), (2, 2)), ('3x1', (3, 2, 3, 2), (3, 1)), ('2x3', (2, 3, 3, 1), (2, 3))]:
    for kind, f in (('nearest', nearest), ('bilinear', bilinear)):
        case(f'upSampling2d {name} {kind}', ['upSampling2d', {'size': size, 'interpolation': kind}], [xs], [],
             lambda x, s=size, f=f: f(x, x.shape[1] * s[0], x.shape[2] * s[1]))
case('upSampling2d channels first', ['upSampling2d', {'size': [2, 2], 'dataFormat': 'channelsFirst'}], [(2, 3, 2, 3)], [],
     lambda x: first(nearest(last(x), 4, 6)))
case('rescaling', ['rescaling', {'scale': 0.25, 'offset': -1}], [(2, 3, 4)], [], lambda x: x * 0.25 - 1)

case('categoryEncoding then dense', [['categoryEncoding', {'numTokens': 4, 'outputMode': 'oneHot'}], ['dense', {'units': 2}]],
     [torch.tensor([[1.0], [3], [1]])], [(4, 2), (2,)], lambda i, w, b: F.one_hot(i[:, 0].long(), 4).to(w.dtype) @ w + b, dtypes=['int32'])

# --- recurrent -----------------------------------------------------------------------------------------------
def run(cell, x, states, sequences=False, backwards=False, mask=None):
    steps, outputs = list(range(x.shape[1])), []
    for t in reversed(steps) if backwards else steps:
        new = cell(x[:, t], states)
        if mask is not None:
            m = mask[:, t].reshape(-1, *[1] * (new[0].dim() - 1))
            new = [torch.where(m, a, b) for a, b in zip(new, states)]
            out = torch.where(m, new[0], outputs[-1] if outputs else torch.zeros_like(new[0]))
        else:
            out = new[0]
        states = new
        outputs.append(out)
    return torch.stack(outputs, 1) if sequences else outputs[-1]


def simple_cell(k, r, b, act=torch.tanh):
    return lambda x, s: [act(x @ k + (0 if b is None else b) + s[0] @ r)]


def gru_cell(k, r, b, act=torch.tanh, rec=hard_sigmoid):
    u = r.shape[0]

    def step(x, s):
        h = s[0]
        xz, xr, xh = (x @ k + b).split(u, -1)
        z, g = rec(xz + h @ r[:, :u]), rec(xr + h @ r[:, u:2 * u])
        return [z * h + (1 - z) * act(xh + (g * h) @ r[:, 2 * u:])]
    return step


def lstm_cell(k, r, b, act=torch.tanh, rec=hard_sigmoid):
    def step(x, s):
        i, f, c, o = (x @ k + s[0] @ r + b).split(r.shape[0], -1)
        c = rec(f) * s[1] + rec(i) * act(c)
        return [rec(o) * act(c), c]
    return step


def zeros(x, u, n=1):
    return [torch.zeros(x.shape[0], u) for _ in range(n)]


KINDS = {'simpleRNN': (1, simple_cell, 1), 'gru': (3, gru_cell, 1), 'lstm': (4, lstm_cell, 2)}
for kind, (gates, cell, states) in KINDS.items():
    for name, xs, u, args, kw in [
        ('last', (2, 4, 3), 2, {}, {}),
        ('sequences', (3, 3, 2), 3, {'returnSequences': True}, {'sequences': True}),
        ('backwards', (2, 4, 3), 2, {'goBackwards': True}, {'backwards': True}),
    ]:
        case(f'{kind} {name}', [kind, {'units': u, **args}], [xs], [(xs[2], gates * u), (u, gates * u), (gates * u,)],
             lambda x, k, r, b, cell=cell, kw=kw, u=u, n=states: run(cell(k, r, b), x, zeros(x, u, n), **kw))
    case(f'{kind} unrolled', [kind, {'units': 2, 'unroll': True}], [(2, 4, 3)], [(3, gates * 2), (2, gates * 2), (gates * 2,)],
         lambda x, k, r, b, cell=cell, n=states: run(cell(k, r, b), x, zeros(x, 2, n)))
    # The cells in a plain RNN, and masked steps.
    case(f'rnn of {kind}Cell', ['rnn', {'cell': {'$layer': [f'{kind}Cell', {'units': 2}]}}], [(2, 4, 3)],
         [(3, gates * 2), (2, gates * 2), (gates * 2,)],
         lambda x, k, r, b, cell=cell, n=states: run(cell(k, r, b), x, zeros(x, 2, n)))
    masked = tensor((2, 4, 3)).detach().numpy()
    masked[0, 2:] = 0
    masked[1, 3:] = 0
    masked = torch.tensor(masked, requires_grad=True)
    for seq in (False, True):
        def masked_run(x, k, r, b, cell=cell, n=states, seq=seq):
            m = (x != 0).any(-1)
            return run(cell(k, r, b), x * m[..., None], zeros(x, 2, n), sequences=seq, mask=m)
        case(f'masking then {kind}' + (' sequences' if seq else ''),
             [['masking', {}], [kind, {'units': 2, 'returnSequences': seq}]], [masked],
             [(3, gates * 2), (2, gates * 2), (gates * 2,)], masked_run)
    for merge, f in {'concat': lambda a, b: torch.cat([a, b], -1), 'sum': lambda a, b: a + b, 'mul': lambda a, b: a * b,
                     'ave': lambda a, b: (a + b) / 2}.items():
        for seq in (False, True):
            if seq and merge not in ('concat', 'sum'):
                continue

            def both(x, k, r, b, k2, r2, b2, cell=cell, n=states, f=f, seq=seq):
                back = run(cell(k2, r2, b2), x, zeros(x, 2, n), sequences=seq, backwards=True)
                return f(run(cell(k, r, b), x, zeros(x, 2, n), sequences=seq), back.flip(1) if seq else back)
            case(f'bidirectional {kind} {merge}' + (' sequences' if seq else ''),
                 ['bidirectional', {'layer': {'$layer': [kind, {'units': 2, 'returnSequences': seq}]}, 'mergeMode': merge}],
                 [(2, 3, 2)], [(2, gates * 2), (2, gates * 2), (gates * 2,)] * 2, both)
case('simpleRNN relu without bias', ['simpleRNN', {'units': 2, 'activation': 'relu', 'useBias': False}], [(2, 4, 3)],
     [(3, 2), (2, 2)], lambda x, k, r: run(simple_cell(k, r, None, F.relu), x, zeros(x, 2)))
case('lstm sigmoid gates', ['lstm', {'units': 2, 'recurrentActivation': 'sigmoid'}], [(2, 4, 3)],
     [(3, 8), (2, 8), (8,)], lambda x, k, r, b: run(lstm_cell(k, r, b, rec=torch.sigmoid), x, zeros(x, 2, 2)))


def stacked(x, k, r, b, k2, r2, b2):
    return run(simple_cell(k2, r2, b2), run(lstm_cell(k, r, b), x, zeros(x, 2, 2), sequences=True), zeros(x, 3))


case('rnn of stackedRNNCells',
     ['rnn', {'cell': {'$layer': ['stackedRNNCells', {'cells': [{'$layer': ['lstmCell', {'units': 2}]}, {'$layer': ['simpleRNNCell', {'units': 3}]}]}]}}],
     [(2, 3, 2)], [(2, 8), (2, 8), (8,), (2, 3), (3, 3), (3,)], stacked)
case('timeDistributed dense', ['timeDistributed', {'layer': {'$layer': ['dense', {'units': 3, 'activation': 'tanh'}]}}], [(2, 3, 4)],
     [(4, 3), (3,)], lambda x, w, b: torch.tanh(x @ w + b))
case('timeDistributed conv2d', ['timeDistributed', {'layer': {'$layer': ['conv2d', {'filters': 2, 'kernelSize': 2}]}}],
     [(2, 2, 3, 4, 2)], [(2, 2, 2, 2), (2,)],
     lambda x, w, b: torch.stack([conv(x[:, t], w) + b for t in range(2)], 1))


def conv_lstm(x, k, r, b, strides=1, padding='valid', sequences=False):
    def step(xt, s):
        gates = (conv(xt, k, strides, padding) + b).split(r.shape[3] // 4, -1)
        inner = conv(s[0], r, 1, 'same').split(r.shape[3] // 4, -1)
        i, f, g, o = [a + c for a, c in zip(gates, inner)]
        c = hard_sigmoid(f) * s[1] + hard_sigmoid(i) * torch.tanh(g)
        return [hard_sigmoid(o) * torch.tanh(c), c]
    zero = torch.zeros_like(conv(x[:, 0], k, strides, padding)[..., :r.shape[3] // 4])
    return run(step, x, [zero, zero], sequences=sequences)


for name, args, kw in [('valid', {}, {}), ('same sequences', {'padding': 'same', 'returnSequences': True}, {'padding': 'same', 'sequences': True}),
                       ('stride 2', {'strides': 2}, {'strides': 2})]:
    case(f'convLstm2d {name}', ['convLstm2d', {'filters': 2, 'kernelSize': 2, **args}], [(2, 3, 4, 4, 2)],
         [(2, 2, 2, 8), (2, 2, 2, 8), (8,)], lambda x, k, r, b, kw=kw: conv_lstm(x, k, r, b, **kw))
case('convLstm2dCell in a convolutional chain', [['convLstm2d', {'filters': 1, 'kernelSize': 3, 'padding': 'same'}], ['flatten', {}]],
     [(2, 2, 3, 3, 1)], [(3, 3, 1, 4), (3, 3, 1, 4), (4,)],
     lambda x, k, r, b: conv_lstm(x, k, r, b, padding='same').reshape(2, 9))

# --- small nets ----------------------------------------------------------------------------------------------
case('LeNet-like chain',
     [['conv2d', {'filters': 3, 'kernelSize': 3, 'activation': 'relu'}], ['maxPooling2d', {'poolSize': 2}], ['flatten', {}],
      ['dense', {'units': 4}]],
     [(3, 8, 8, 1)], [(3, 3, 1, 3), (3,), (27, 4), (4,)],
     lambda x, w, b, w2, b2: max_pool(F.relu(conv(x, w) + b), 2, 2, 'valid').reshape(3, 27) @ w2 + b2)

if __name__ == '__main__':
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'layers.json')
    with open(path, 'w') as file:
        file.write('[\n' + ',\n'.join(json.dumps(c, separators=(',', ':')) for c in cases) + '\n]\n')
    print(len(cases), 'cases', os.path.getsize(path), 'bytes')

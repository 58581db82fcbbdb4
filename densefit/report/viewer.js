// Plays the take in WebGL. Everything it needs is in the page: no network, no library.
"use strict";

const TYPES = {
  f4: Float32Array, u1: Uint8Array, u2: Uint16Array, i2: Int16Array, u4: Uint32Array,
};

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const size = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  const arrays = {};
  let place = 8 + size;
  for (const [name, type, count] of header.arrays) {
    arrays[name] = new TYPES[type](buffer, place, count);
    place += Math.ceil((count * TYPES[type].BYTES_PER_ELEMENT) / 8) * 8;
  }
  return { header, ...arrays };
}

// Quaternion (x, y, z, w) to a row-major 3x3 matrix.
function matrixOf(q, at) {
  const [x, y, z, w] = q.subarray(at, at + 4);
  return [
    1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
    2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
    2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
  ];
}

// The head of one frame: shapes, then joints, then (unless it stands still) its motion.
function poseHead(take, frame, still, out) {
  const { header, neutral, weights, skinning, joints } = take;
  out.set(neutral);
  let place = 0;
  for (let k = 0; k < header.names.length; k++) {
    const count = take.shape_counts[k];
    const weight = (weights[frame * header.names.length + k] / 32767) * header.step;
    if (weight !== 0) {
      for (let i = place; i < place + count; i++) {
        const v = 3 * take.shape_vertices[i];
        out[v] += weight * take.shape_offsets[3 * i];
        out[v + 1] += weight * take.shape_offsets[3 * i + 1];
        out[v + 2] += weight * take.shape_offsets[3 * i + 2];
      }
    }
    place += count;
  }
  const turns = [0, 1, 2].map((j) => matrixOf(joints, 4 * (3 * frame + j)));
  const root = matrixOf(take.rotation, 4 * frame);
  const shift = take.translation.subarray(3 * frame, 3 * frame + 3);
  for (let v = 0; v < out.length / 3; v++) {
    const x = out[3 * v], y = out[3 * v + 1], z = out[3 * v + 2];
    let a = x, b = y, c = z;
    for (let j = 0; j < 3; j++) {
      const w = skinning[3 * v + j] / 255;
      if (w > 0) {
        const m = turns[j], o = header.centres[j];
        const dx = x - o[0], dy = y - o[1], dz = z - o[2];
        a += w * (m[0] * dx + m[1] * dy + m[2] * dz - dx);
        b += w * (m[3] * dx + m[4] * dy + m[5] * dz - dy);
        c += w * (m[6] * dx + m[7] * dy + m[8] * dz - dz);
      }
    }
    if (!still) {
      const p = a, q = b, r = c;
      a = root[0] * p + root[1] * q + root[2] * r + shift[0];
      b = root[3] * p + root[4] * q + root[5] * r + shift[1];
      c = root[6] * p + root[7] * q + root[8] * r + shift[2];
    }
    out[3 * v] = a; out[3 * v + 1] = b; out[3 * v + 2] = c;
  }
}

function normalsOf(points, triangles, out) {
  out.fill(0);
  for (let t = 0; t < triangles.length; t += 3) {
    const i = 3 * triangles[t], j = 3 * triangles[t + 1], k = 3 * triangles[t + 2];
    const ux = points[j] - points[i], uy = points[j + 1] - points[i + 1];
    const uz = points[j + 2] - points[i + 2];
    const vx = points[k] - points[i], vy = points[k + 1] - points[i + 1];
    const vz = points[k + 2] - points[i + 2];
    const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
    for (const p of [i, j, k]) { out[p] += nx; out[p + 1] += ny; out[p + 2] += nz; }
  }
}

const VERTEX = `
attribute vec3 position, normal, colour;
uniform mat4 view;
uniform vec3 eye;
varying vec3 shade;
void main() {
  gl_Position = view * vec4(position, 1.0);
  vec3 n = normalize(normal + vec3(1e-12));
  vec3 towards = normalize(eye - position);
  float front = max(dot(n, towards), 0.0);
  float key = max(dot(n, normalize(towards + vec3(0.5, 0.9, 0.0))), 0.0);
  shade = colour * (0.22 + 0.45 * front + 0.55 * key) + 0.06 * pow(key, 24.0);
}`;
const FRAGMENT = `
precision mediump float;
varying vec3 shade;
void main() { gl_FragColor = vec4(shade, 1.0); }`;

function makeProgram(gl, vertex, fragment) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) {
      throw new Error(gl.getShaderInfoLog(shader));
    }
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  return program;
}

// Column-major perspective times view for a camera that looks from `eye` at `target`, y up.
function viewMatrix(eye, target, aspect, fov) {
  const sub = (a, b) => a.map((x, i) => x - b[i]);
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [
    a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0],
  ];
  const unit = (a) => { const l = Math.hypot(...a); return a.map((x) => x / l); };
  const back = unit(sub(eye, target)), right = unit(cross([0, 1, 0], back));
  const up = cross(back, right), f = 1 / Math.tan(fov / 2), near = 0.02, far = 20;
  const a = (far + near) / (near - far), b = (2 * far * near) / (near - far);
  const out = new Float32Array(16);
  const rows = [
    [...right.map((x) => (x * f) / aspect), (-dot(right, eye) * f) / aspect],
    [...up.map((x) => x * f), -dot(up, eye) * f],
    [...back.map((x) => x * a), -dot(back, eye) * a + b],
    [...back.map((x) => -x), dot(back, eye)],
  ];
  rows.forEach((row, r) => row.forEach((x, c) => { out[4 * c + r] = x; }));
  return out;
}

class Viewer {
  constructor(canvas, take) {
    this.gl = canvas.getContext("webgl", { antialias: true, preserveDrawingBuffer: true });
    if (!this.gl) { throw new Error("this browser has no WebGL"); }
    // Wire frames index more edges than 16 bits count, and so may the mesh.
    this.gl.getExtension("OES_element_index_uint");
    this.canvas = canvas;
    this.take = take;
    this.frame = 0;
    this.still = false;
    this.wire = false;
    this.angle = [0.35, 0.08];
    this.distance = 0.85;
    this.prepare();
  }

  prepare() {
    const { gl, take } = this;
    this.program = makeProgram(gl, VERTEX, FRAGMENT);
    gl.useProgram(this.program);
    // Triangles do not share vertices across parts, so that colours end sharply.
    const count = take.triangles.length, colours = new Float32Array(3 * count);
    take.part.forEach((part, t) => {
      for (let corner = 0; corner < 3; corner++) {
        colours.set(take.header.colours[part], 9 * t + 3 * corner);
      }
    });
    this.points = new Float32Array(take.neutral.length);
    this.normals = new Float32Array(take.neutral.length);
    this.flat = { position: new Float32Array(3 * count), normal: new Float32Array(3 * count) };
    this.buffers = {};
    for (const name of ["position", "normal", "colour"]) { this.buffers[name] = gl.createBuffer(); }
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.colour);
    gl.bufferData(gl.ARRAY_BUFFER, colours, gl.STATIC_DRAW);
    const edges = new Uint32Array(2 * count);
    for (let t = 0; t < count; t += 3) {
      edges.set([t, t + 1, t + 1, t + 2, t + 2, t], 2 * t);
    }
    this.edges = gl.createBuffer();
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.edges);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, edges, gl.STATIC_DRAW);
    const lines = [];
    for (const camera of take.header.cameras) {
      camera.corners.forEach((corner, i) => {
        lines.push(camera.centre, corner, corner, camera.corners[(i + 1) % 4]);
      });
    }
    this.frusta = new Float32Array(lines.flat());
    this.frustaBuffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.frustaBuffer);
    gl.bufferData(gl.ARRAY_BUFFER, this.frusta, gl.STATIC_DRAW);
    gl.enable(gl.DEPTH_TEST);
    gl.clearColor(0.955, 0.96, 0.97, 1);
  }

  attribute(name, buffer, size) {
    const { gl } = this, place = gl.getAttribLocation(this.program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, gl.FLOAT, false, 0, 0);
  }

  upload(name, source) {
    const { gl, take } = this, target = this.flat[name];
    take.triangles.forEach((v, i) => {
      target[3 * i] = source[3 * v];
      target[3 * i + 1] = source[3 * v + 1];
      target[3 * i + 2] = source[3 * v + 2];
    });
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, target, gl.DYNAMIC_DRAW);
  }

  // The head's middle over the take, so that the view does not follow its motion.
  target() {
    if (this.still) { return [0, -0.03, 0]; }
    const places = this.take.translation, sum = [0, 0, 0];
    for (let i = 0; i < places.length; i++) { sum[i % 3] += places[i]; }
    return sum.map((x) => (3 * x) / places.length);
  }

  draw() {
    const { gl, take, canvas } = this;
    poseHead(take, this.frame, this.still, this.points);
    normalsOf(this.points, take.triangles, this.normals);
    this.upload("position", this.points);
    this.upload("normal", this.normals);
    const target = this.target(), [turn, lift] = this.angle;
    const eye = [
      target[0] + this.distance * Math.sin(turn) * Math.cos(lift),
      target[1] + this.distance * Math.sin(lift),
      target[2] + this.distance * Math.cos(turn) * Math.cos(lift),
    ];
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.useProgram(this.program);
    const view = viewMatrix(eye, target, canvas.width / canvas.height, 0.45);
    gl.uniformMatrix4fv(gl.getUniformLocation(this.program, "view"), false, view);
    gl.uniform3fv(gl.getUniformLocation(this.program, "eye"), eye);
    this.attribute("position", this.buffers.position, 3);
    this.attribute("normal", this.buffers.normal, 3);
    this.attribute("colour", this.buffers.colour, 3);
    if (this.wire) {
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.edges);
      gl.drawElements(gl.LINES, 2 * take.triangles.length, gl.UNSIGNED_INT, 0);
    } else {
      gl.drawArrays(gl.TRIANGLES, 0, take.triangles.length);
    }
    if (!this.still && this.frusta.length) { this.drawFrusta(); }
  }

  drawFrusta() {
    const { gl } = this;
    this.attribute("position", this.frustaBuffer, 3);
    for (const name of ["normal", "colour"]) {
      const place = gl.getAttribLocation(this.program, name);
      gl.disableVertexAttribArray(place);
      gl.vertexAttrib3f(place, 0.2, 0.35, 0.7);
    }
    gl.drawArrays(gl.LINES, 0, this.frusta.length / 3);
  }
}

function control(viewer, box) {
  const { take } = viewer, { time } = take, count = time.length;
  const slider = box.querySelector("[name=frame]"), label = box.querySelector("[name=label]");
  const play = box.querySelector("[name=play]");
  let playing = false, started = 0;
  slider.max = count - 1;
  const show = (frame) => {
    viewer.frame = frame;
    slider.value = frame;
    label.textContent = `frame ${take.frame[frame]}, ${time[frame].toFixed(2)} s`;
    viewer.draw();
  };
  const step = (now) => {
    if (!playing) { return; }
    const speed = Number(box.querySelector("[name=speed]").value);
    const length = time[count - 1] - time[0] || 1;
    const at = time[0] + (((now - started) / 1000) * speed) % (length + 0.3);
    let frame = viewer.frame;
    if (time[frame] > at) { frame = 0; }
    while (frame + 1 < count && time[frame + 1] <= at) { frame++; }
    show(frame);
    requestAnimationFrame(step);
  };
  play.onclick = () => {
    playing = !playing;
    play.textContent = playing ? "pause" : "play";
    const speed = Number(box.querySelector("[name=speed]").value);
    started = performance.now() - ((time[viewer.frame] - time[0]) * 1000) / speed;
    requestAnimationFrame(step);
  };
  if (count < 2) { play.disabled = true; }
  slider.oninput = () => { playing = false; play.textContent = "play"; show(Number(slider.value)); };
  for (const name of ["still", "wire"]) {
    const input = box.querySelector(`[name=${name}]`);
    // Separate pictures: each has the head elsewhere, so it is held where one sees it.
    if (name === "still" && viewer.take.header.independent) { input.checked = viewer.still = true; }
    input.onchange = () => { viewer[name] = input.checked; viewer.draw(); };
  }
  const { canvas } = viewer;
  canvas.onpointerdown = (event) => canvas.setPointerCapture(event.pointerId);
  canvas.onpointermove = (event) => {
    if (!event.buttons) { return; }
    viewer.angle[0] -= event.movementX * 0.008;
    viewer.angle[1] = Math.max(-1.4, Math.min(1.4, viewer.angle[1] + event.movementY * 0.008));
    viewer.draw();
  };
  canvas.onwheel = (event) => {
    event.preventDefault();
    viewer.distance *= Math.exp(event.deltaY * 0.001);
    viewer.distance = Math.max(0.3, Math.min(6, viewer.distance));
    viewer.draw();
  };
  show(0);
  return show;
}

(async () => {
  const box = document.getElementById("viewer");
  try {
    const take = await unpack(document.getElementById("take").textContent.trim());
    const viewer = new Viewer(box.querySelector("canvas"), take);
    window.densefit = { viewer, showFrame: control(viewer, box) };
    box.dataset.state = "ready";
  } catch (error) {
    box.dataset.state = `failed: ${error.message}`;
    box.querySelector("[name=problem]").textContent = `No 3D view: ${error.message}`;
  }
})();

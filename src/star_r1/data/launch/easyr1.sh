#!/usr/bin/env bash
# GRPO with the STAR reward on EasyR1 (Ray, vLLM). Written by 'star-r1 export easyr1'.
#
#   bash run.sh                                                     # one node, 8 cards, 7B
#   MODEL=Qwen/Qwen2.5-VL-3B-Instruct GPUS=4 bash run.sh
#   bash run.sh worker.actor.optim.lr=2e-6                          # any setting of EasyR1
#   bash run.sh worker.reward.reward_function_kwargs.object=0       # an ablation
#   bash run.sh worker.reward.reward_function_kwargs.reward=sparse  # a rival
#
# Several nodes: this folder at the same path and star-r1 on all of them; then
#   ray start --head --port 6379            # on the first
#   ray start --address FIRST:6379          # on each other
#   NODES=4 bash run.sh                     # on the first, once
#
# The numbers are stand-ins (Reason-RFT's on the same data: STAR-R1's are unpublished), as in
# recipes/ of star-r1; the 16 prompts a step are this project's choice.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MODEL=${MODEL:-Qwen/Qwen2.5-VL-7B-Instruct}
NODES=${NODES:-1}
GPUS=${GPUS:-8}
OUT=${OUT:-$HERE/run}
PYTHON=${PYTHON:-python3}

if [ "$NODES" -gt 1 ]; then
  export RAY_ADDRESS=${RAY_ADDRESS:-auto} # fail where Ray does not run, do not start one alone
fi
VAL=(data.val_files="$HERE/val.parquet" trainer.val_freq=100 trainer.val_before_train=true)
if [ ! -e "$HERE/val.parquet" ]; then
  VAL=(data.val_files="$HERE/train.parquet" trainer.val_freq=-1 trainer.val_before_train=false)
fi

exec "$PYTHON" -m verl.trainer.main \
  data.train_files="$HERE/train.parquet" \
  data.prompt_key=problem \
  data.answer_key=answer \
  data.image_key=images \
  data.rollout_batch_size=16 \
  data.max_prompt_length=4096 \
  data.max_response_length=512 \
  data.max_pixels=480000 \
  data.min_pixels=3136 \
  data.seed=0 \
  algorithm.adv_estimator=grpo \
  algorithm.use_kl_loss=true \
  algorithm.kl_penalty=low_var_kl \
  algorithm.kl_coef=0.04 \
  worker.actor.model.model_path="$MODEL" \
  worker.actor.model.freeze_vision_tower=true \
  worker.actor.global_batch_size=16 \
  worker.actor.micro_batch_size_per_device_for_update=4 \
  worker.actor.micro_batch_size_per_device_for_experience=8 \
  worker.actor.clip_ratio_low=0.2 \
  worker.actor.clip_ratio_high=0.2 \
  worker.actor.loss_avg_mode=seq \
  worker.actor.optim.lr=1e-6 \
  worker.rollout.n=8 \
  worker.rollout.temperature=0.9 \
  worker.rollout.top_p=0.9 \
  worker.rollout.top_k=50 \
  worker.rollout.tensor_parallel_size=1 \
  worker.rollout.gpu_memory_utilization=0.6 \
  worker.rollout.limit_images=2 \
  worker.reward.reward_function="$HERE/reward.py:compute_score" \
  trainer.logger='["console","tensorboard"]' \
  trainer.project_name=star-r1 \
  trainer.experiment_name=grpo \
  trainer.nnodes="$NODES" \
  trainer.n_gpus_per_node="$GPUS" \
  trainer.total_epochs=1 \
  trainer.save_freq=100 \
  trainer.save_limit=2 \
  trainer.save_checkpoint_path="$OUT" \
  "${VAL[@]}" "$@"
